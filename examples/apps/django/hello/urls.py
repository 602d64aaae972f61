import os

from django.http import HttpResponse
from django.urls import re_path


def hello(request):
    text = f"Hello from Django, process {os.getpid()}, at {request.get_full_path()}\n"
    return HttpResponse(text, content_type="text/plain")


urlpatterns = [re_path("", hello)]
