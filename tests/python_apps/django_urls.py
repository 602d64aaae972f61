import asyncio
import os
import time
import zlib

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.urls import path


def upload(request):
    if request.method != "POST":
        return HttpResponse(get_token(request))
    file = request.FILES["file"]
    sum = 1
    for chunk in file.chunks():
        sum = zlib.adler32(chunk, sum)
    answer = {"name": file.name, "length": file.size, "adler32": sum, "kind": type(file).__name__}
    return JsonResponse(answer)


def stream(request, file):
    def pieces():
        yield "first\n"
        while not os.path.exists(file):
            time.sleep(0.005)
        yield "second\n"

    async def pieces_later():
        yield "first\n"
        while not os.path.exists(file):
            await asyncio.sleep(0.005)
        yield "second\n"

    is_asgi = isinstance(request, ASGIRequest)
    return StreamingHttpResponse(pieces_later() if is_asgi else pieces(), content_type="text/plain")


def about(request, name):
    answer = {"class": type(request).__name__, "name": name, "uri": request.build_absolute_uri(), "pid": os.getpid()}
    return JsonResponse(answer)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("upload/", upload),
    path("stream/<file>", stream),
    path("about/<name>", about),
    # In development; only `runserver` needs no word of it.
    *staticfiles_urlpatterns(),
]
