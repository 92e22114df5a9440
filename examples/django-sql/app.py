import json
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    # Host, port and user come from PGHOST, PGPORT and PGUSER, as everywhere with PostgreSQL.
    DATABASES={
        "default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("PGDATABASE", "postgres")}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, JsonResponse
from django.urls import path


class Book(models.Model):
    title = models.CharField(max_length=200)

    class Meta:
        app_label = "books"


def tell(instance: Book, **_: object) -> None:
    """Publish what was saved, in the transaction that saves it: the hub gets it if and only if that commits."""
    with connection.cursor() as cursor:
        topic, data = f"https://example.com/books/{instance.pk}", json.dumps({"title": instance.title})
        cursor.execute("SELECT mercure.publish(%s::text, %s)", [topic, data])


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
