import json

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

from django.core.asgi import get_asgi_application
from django.db import connection, models, transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

from hub import Hub, Settings

hub = Hub(Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://"))


class Book(models.Model):
    title = models.CharField(max_length=200)

    class Meta:
        app_label = "books"


def tell(instance: Book, **_: object) -> None:
    """Publish what was saved, once it is committed: a transaction that is rolled back tells nobody."""
    topic, data = f"https://example.com/books/{instance.pk}", {"title": instance.title}
    transaction.on_commit(lambda: hub.publish_threadsafe(topic, data).result())


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

pages = get_asgi_application()


async def either(scope, receive, send):
    """The hub has its own path; Django has all the others."""
    await (hub.asgi if scope["path"].startswith("/.well-known/mercure") else pages)(scope, receive, send)


app = Starlette(routes=[Mount("/", either)], lifespan=hub.lifespan)
