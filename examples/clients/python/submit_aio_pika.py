"""Submits one request to jobquay and waits for its terminal event, with aio-pika (Python 3.11 or later).

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python submit_aio_pika.py hello '{"name": "Ada"}'

../README.md has the other variables, the exit codes, and the rules that the comments here refer to.
"""

import asyncio
import json
import os
import sys
import uuid

import aio_pika
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError

REQUESTS = "jobquay.requests"


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


async def answer_to(request_id, events):
    """Shows each terminal event once, and returns the one of `request_id`."""
    seen = set()  # a service keeps these where it keeps what it does with a result
    async for message in events:
        try:
            event = json.loads(message.body)
            data = event["data"]
            ours = event["correlationid"] == request_id
            # A named queue may still hold the answer to an earlier request: it counts like our own.
            if data["terminal"] and event["id"] not in seen:
                show(data)
                seen.add(event["id"])
        except (ValueError, KeyError, TypeError) as error:
            print(f"not an event: {error!r}", file=sys.stderr)
            await message.reject(requeue=False)
            continue
        # Only now: what is not acknowledged comes again, so that a crash above loses nothing.
        await message.ack()
        if ours and data["terminal"]:
            return data
    # The iterator ends without an error when the connection or the queue goes away.
    raise ConnectionError("the reply queue is gone, or the connection to it")


async def submit(request, request_id, reply_queue, timeout):
    """Returns the data of the terminal event, or None if there is none in time."""
    # Not connect_robust: it would make an exclusive queue again after a lost connection, without the answers that
    # came meanwhile, and it sends no request again. Starting over with the same request id covers both.
    async with await aio_pika.connect(os.environ["AMQP_URL"], timeout=30) as connection:
        # Without on_return_raises an unroutable request passes for a sent one.
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=100)
        if reply_queue:
            # For work that must not be lost: it outlives this process, and a broker node.
            queue = await channel.declare_queue(reply_queue, durable=True, arguments={"x-queue-type": "quorum"})
        else:
            # For a caller that waits: it is gone with this connection, and so is an answer that comes later.
            queue = await channel.declare_queue(exclusive=True)
        async with queue.iterator() as events:  # before the request: then no answer comes too early
            message = aio_pika.Message(
                json.dumps(request).encode(),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=request_id,
                correlation_id=request_id,
                reply_to=queue.name,
                # The trace of this one call; a service passes on the one that it is in.
                headers={"traceparent": f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01"},
            )
            await channel.default_exchange.publish(message, REQUESTS, mandatory=True, timeout=30)
            try:
                async with asyncio.timeout(timeout):
                    return await answer_to(request_id, events)
            except TimeoutError:
                return None


def main():
    if len(sys.argv) not in (2, 3) or "AMQP_URL" not in os.environ:
        print("usage: AMQP_URL=… submit_aio_pika.py TEMPLATE [PARAMS as JSON]", file=sys.stderr)
        return 2
    request = {"template": sys.argv[1], "params": json.loads(sys.argv[2]) if len(sys.argv) == 3 else {}}
    request_id = os.environ.get("REQUEST_ID") or str(uuid.uuid4())
    timeout = float(os.environ.get("TIMEOUT", "3600"))
    try:
        answer = asyncio.run(submit(request, request_id, os.environ.get("REPLY_QUEUE"), timeout))
    except PublishError:
        print(f"nobody takes requests: this broker has no queue {REQUESTS}; start a dispatcher", file=sys.stderr)
        return 3
    except DeliveryError:
        print(f"RabbitMQ refused the request: is {REQUESTS} full?", file=sys.stderr)
        return 3
    except (AMQPError, ConnectionError, TimeoutError) as error:
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
