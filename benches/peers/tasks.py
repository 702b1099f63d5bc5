"""A Celery application that answers from the cache: RabbitMQ as its broker, late acknowledgements, results in Redis."""

import hashlib
import json
import os

import redis
from celery import Celery

app = Celery("tasks", broker=os.environ["AMQP_URL"], backend=os.environ["RESULTS_URL"])
app.conf.update(
    task_acks_late=True,
    task_default_queue=os.environ["QUEUE"],
    task_ignore_result=False,
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "4")),
)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])
value = os.environ.get("VALUE", "{}").encode()


@app.task(name="tasks.answer")
def answer(request):
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    cached = cache.get(f"peer:{key}")
    if cached is None:
        cached = value
        cache.set(f"peer:{key}", cached)
    return cached.decode()
