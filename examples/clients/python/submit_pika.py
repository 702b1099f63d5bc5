"""Submits one request to jobquay and waits for its terminal event, with pika.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python submit_pika.py hello '{"name": "Ada"}'

../README.md has the other variables, the exit codes, and the rules that the comments here refer to.
"""

import json
import os
import sys
import time
import uuid

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError

REQUESTS = "jobquay.requests"


class Inbox:
    """Takes the events of the reply queue; `answer` is the terminal one of `request_id`, once it is there."""

    def __init__(self, request_id):
        self.request_id = request_id
        self.seen = set()  # a service keeps these where it keeps what it does with a result
        self.answer = None

    def receive(self, channel, method, _properties, body):
        try:
            event = json.loads(body)
            data = event["data"]
            # A named queue may still hold the answer to an earlier request: it counts like our own.
            if data["terminal"] and event["id"] not in self.seen:
                show(data)
                self.seen.add(event["id"])
                if event["correlationid"] == self.request_id:
                    self.answer = data
        except (ValueError, KeyError, TypeError) as error:
            print(f"not an event: {error!r}", file=sys.stderr)
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        # Only now: what is not acknowledged comes again, so that a crash above loses nothing.
        channel.basic_ack(method.delivery_tag)


def show(data):
    line = f"{data['state']} {data['request_id']}"
    if data["state"] == "succeeded":
        result = data.get("result") or {}
        value = next((result[form] for form in ("json", "text", "base64", "ref") if form in result), None)
        print(f"{line} ({data['served_by']}): {json.dumps(value)}")
        return
    error = data["error"]
    pointer = f", at {error['pointer']}" if "pointer" in error else ""
    exit_code = f", exit code {error['exit_code']}" if "exit_code" in error else ""
    print(f"{line}: {error['code']}: {error['message']}{pointer}{exit_code}")
    for log_line in error.get("log_tail", "").splitlines():
        print(f"    {log_line}")


def submit(parameters, request, request_id, reply_queue, timeout):
    """Returns the data of the terminal event, or None if there is none in time."""
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()  # with it, basic_publish waits for the broker's word
        channel.basic_qos(prefetch_count=100)
        if reply_queue:
            # For work that must not be lost: it outlives this process, and a broker node.
            channel.queue_declare(reply_queue, durable=True, arguments={"x-queue-type": "quorum"})
        else:
            # For a caller that waits: it is gone with this connection, and so is an answer that comes later.
            reply_queue = channel.queue_declare("", exclusive=True).method.queue
        inbox = Inbox(request_id)
        channel.basic_consume(reply_queue, inbox.receive)  # before the request: then no answer comes too early

        properties = pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            message_id=request_id,
            correlation_id=request_id,
            reply_to=reply_queue,
            # The trace of this one call; a service passes on the one that it is in.
            headers={"traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"},
        )
        # `mandatory`, or a request that no queue takes would be confirmed and dropped. pika holds the confirmation
        # against the returned message and raises UnroutableError, but only if confirm_delivery() was called.
        channel.basic_publish("", REQUESTS, json.dumps(request), properties, mandatory=True)

        # A BlockingConnection sends heartbeats only inside calls like this one. Who sleeps or computes for longer
        # than the heartbeat loses the connection: long work belongs into a thread (add_callback_threadsafe).
        deadline = time.monotonic() + timeout
        while inbox.answer is None and (left := deadline - time.monotonic()) > 0:
            connection.process_data_events(time_limit=min(left, 1))
        return inbox.answer


def main():
    if len(sys.argv) not in (2, 3) or "AMQP_URL" not in os.environ:
        print("usage: AMQP_URL=… submit_pika.py TEMPLATE [PARAMS as JSON]", file=sys.stderr)
        return 2
    request = {"template": sys.argv[1], "params": json.loads(sys.argv[2]) if len(sys.argv) == 3 else {}}
    request_id = os.environ.get("REQUEST_ID") or str(uuid.uuid4())
    timeout = float(os.environ.get("TIMEOUT", "3600"))
    parameters = pika.URLParameters(os.environ["AMQP_URL"])
    # A broker that is out of memory or disk stops reading: without this, publishing would then wait for ever.
    parameters.blocked_connection_timeout = 30
    try:
        answer = submit(parameters, request, request_id, os.environ.get("REPLY_QUEUE"), timeout)
    except UnroutableError:
        print(f"nobody takes requests: this broker has no queue {REQUESTS}; start a dispatcher", file=sys.stderr)
        return 3
    except NackError:
        print(f"RabbitMQ refused the request: is {REQUESTS} full?", file=sys.stderr)
        return 3
    except AMQPError as error:
        print(f"no connection to RabbitMQ: {error!r}; sending {request_id} again is safe", file=sys.stderr)
        return 3
    if answer is None:
        print(
            f"no answer within {timeout:g} s: request {request_id} goes on, and the same request later gets its result",
            file=sys.stderr,
        )
        return 124
    return 0 if answer["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
