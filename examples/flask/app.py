"""A report that takes its time, made by a Celery worker; whoever waits for it sees how far it is.

make serve                                    the hub
celery --app app:celery worker                what works, with a Redis as its broker
flask --app app run                           what is asked: POST /reports
"""

import os
import time

from celery import Celery
from flask import Flask

from hub.client import Client, Key

HUB = os.environ.get("HUB", "http://127.0.0.1:3000/.well-known/mercure")
KEY = os.environ.get("MERCURE_PUBLISHER_JWT_KEY", "!ChangeThisMercureHubJWTSecretKey!")

# A client connects when it first publishes, so that each of Celery's forks has connections of its own.
hub = Client(HUB, token=Key(KEY, publish=["https://example.com/reports/{id}"]))
app = Flask(__name__)
celery = Celery("app", broker=os.environ.get("BROKER", "redis://127.0.0.1:6379/0"))


@celery.task(bind=True)
def report(task) -> None:
    for percent in range(0, 101, 25):
        hub.publish(f"https://example.com/reports/{task.request.id}", str(percent))
        time.sleep(0.1)


@app.post("/reports")
def order():
    """A stream of this topic, asked for with ``lastEventID=earliest``, misses nothing of what began before it."""
    return {"topic": f"https://example.com/reports/{report.delay().id}"}, 202
