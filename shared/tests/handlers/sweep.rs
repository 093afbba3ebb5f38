//! What the sweep finds, what it costs, and where it stops.
