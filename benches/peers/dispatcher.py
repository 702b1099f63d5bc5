"""A dispatcher as a tutorial shows one: pika's blocking connection, redis-py and the kubernetes client, one message at
a time. It answers from the cache, or creates a Job; nobody watches what becomes of the Job."""

import argparse
import hashlib
import json

import pika
import redis
from kubernetes import client, config

arguments = argparse.ArgumentParser()
arguments.add_argument("--amqp", required=True)
arguments.add_argument("--redis", required=True)
arguments.add_argument("--kubeconfig", required=True)
arguments.add_argument("--queue", required=True)
arguments.add_argument("--prefetch", type=int, default=1)
arguments.add_argument("--confirm", action="store_true")
arguments.add_argument("--value", default="{}", help="put into the cache for every key that is missing, instead of a Job")
arguments.add_argument("--misses", action="store_true", help="create Jobs")
settings = arguments.parse_args()

cache = redis.Redis.from_url(settings.redis)
config.load_kube_config(settings.kubeconfig)
jobs = client.BatchV1Api()
connection = pika.BlockingConnection(pika.URLParameters(settings.amqp))
channel = connection.channel()
channel.basic_qos(prefetch_count=settings.prefetch)
if settings.confirm:
    channel.confirm_delivery()


def create_job(key, params):
    labels = {"app": "dispatcher"}
    container = client.V1Container(
        name="worker", image="registry.local/worker:1", args=[str(params["number"]), params["padding"]]
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(restart_policy="Never", containers=[container]),
    )
    spec = client.V1JobSpec(template=template, backoff_limit=0)
    metadata = client.V1ObjectMeta(name=f"peer-{key[:32]}", labels=labels)
    jobs.create_namespaced_job("work", client.V1Job(metadata=metadata, spec=spec))


def answer(channel, method, properties, body):
    request = json.loads(body)
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    cached = cache.get(f"peer:{key}")
    if cached is None and settings.misses:
        create_job(key, request["params"])
    else:
        if cached is None:
            cached = settings.value.encode()
            cache.set(f"peer:{key}", cached)
        reply = pika.BasicProperties(
            message_id=properties.message_id, correlation_id=properties.correlation_id, delivery_mode=2
        )
        channel.basic_publish("", properties.reply_to, cached, reply, mandatory=settings.confirm)
    channel.basic_ack(method.delivery_tag)


channel.basic_consume(settings.queue, answer)
channel.start_consuming()
