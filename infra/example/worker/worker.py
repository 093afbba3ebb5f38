"""The example's worker: takes jobs from the queue, one at a time, and finishes the one in hand when it is stopped."""

import os
import signal
import sys
import time

stopping = False


def stop(*_):
    global stopping
    stopping = True


def work(job):
    """Where your work would be."""
    time.sleep(2)
    print(f"done: {len(job)} characters", flush=True)


def main():
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    signal.signal(signal.SIGTERM, stop)
    queue = boto3.client("sqs")
    url = os.environ["QUEUE_URL"]
    while not stopping:
        try:
            # Short waits, so that a worker without work ends soon after it is told to.
            answer = queue.receive_message(QueueUrl=url, MaxNumberOfMessages=1, WaitTimeSeconds=5)
        except (BotoCoreError, ClientError) as error:
            print(f"the queue does not answer: {error}", file=sys.stderr, flush=True)
            time.sleep(5)
            continue
        for message in answer.get("Messages", []):
            # What fails here is not deleted: SQS gives it to another worker, and after five times to the failed ones.
            work(message["Body"])
            queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def check():
    """What CI runs: the program starts without a queue, and all it needs is there."""
    import boto3  # noqa: F401

    work("a job")


if __name__ == "__main__":
    check() if sys.argv[1:] == ["check"] else main()
