import json
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "books.sqlite"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, JsonResponse
from django.urls import path

from hub.client import Client, Key

HUB = os.environ.get("HUB", "http://127.0.0.1:3000/.well-known/mercure")
KEY = os.environ.get("MERCURE_PUBLISHER_JWT_KEY", "!ChangeThisMercureHubJWTSecretKey!")
hub = Client(HUB, token=Key(KEY, publish=["*"]), patience=3)


class Book(models.Model):
    title = models.CharField(max_length=200)

    class Meta:
        app_label = "books"


def tell(instance: Book, **_: object) -> None:
    """Publish what was saved, once it is committed: a transaction that is rolled back tells nobody."""
    topic, data = f"https://example.com/books/{instance.pk}", json.dumps({"title": instance.title})
    # robust: a hub that does not answer is logged, and the view answers all the same: the book is saved.
    transaction.on_commit(lambda: hub.publish(topic, data), robust=True)


post_save.connect(tell, Book)


def change(request: HttpRequest, number: int) -> JsonResponse:
    with transaction.atomic():
        book, _ = Book.objects.update_or_create(pk=number, defaults={"title": json.loads(request.body)["title"]})
        if request.GET.get("fail"):
            transaction.set_rollback(True)
    return JsonResponse({"title": book.title})


urlpatterns = [path("books/<int:number>", change)]
with connection.schema_editor() as schema:
    if Book._meta.db_table not in connection.introspection.table_names():
        schema.create_model(Book)

app = get_wsgi_application()
