import json

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "books.sqlite"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)
django.setup()

from django.contrib.sessions.backends.db import SessionStore
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from hub import Grants, Hub, Settings


async def by_session(request: HTTPConnection) -> Grants | None:
    """A user receives what is for them. None: the request's token decides, as everywhere."""
    key = request.cookies.get(settings.SESSION_COOKIE_NAME)
    user = await SessionStore(key).aget("user") if key else None
    return Grants.to(subscribe=[f"https://example.com/users/{user}"], subject=user) if user else None


hub = Hub(
    Settings(publisher_jwt_key="a-secret-of-32-characters-at-least", anonymous=True, transport_url="memory://"),
    authorize=by_session,
)


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


def log_in(request: HttpRequest, user: str) -> HttpResponse:
    """As `django.contrib.auth` does it, which keeps the user's number in the same session."""
    request.session["user"] = user
    return HttpResponse(status=204)


def write_to(request: HttpRequest, user: str) -> HttpResponse:
    message = json.loads(request.body)
    hub.publish_threadsafe(f"https://example.com/users/{user}", message, private=True).result()
    return HttpResponse(status=204)


urlpatterns = [
    path("books/<int:number>", change),
    path("log-in/<user>", log_in),
    path("messages/<user>", write_to),
]
call_command("migrate", verbosity=0)
with connection.schema_editor() as schema:
    if Book._meta.db_table not in connection.introspection.table_names():
        schema.create_model(Book)

pages = get_asgi_application()


async def either(scope, receive, send):
    """The hub has its own path; Django has all the others."""
    await (hub.asgi if scope["path"].startswith("/.well-known/mercure") else pages)(scope, receive, send)


app = Starlette(routes=[Mount("/", either)], lifespan=hub.lifespan)
