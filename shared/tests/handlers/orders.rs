//! Any order of events, repetitions, losses and faults ends with the newest image.
