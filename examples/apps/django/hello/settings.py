"""The least that Django can be run with; `django-admin startproject` writes more."""

import os
import secrets

# Told to all workers (`[env]` in hatchery.toml, or `--env`), or sessions end with them.
SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_urlsafe(50)
DEBUG = os.environ.get("HATCHERY_ENV") == "development"
ALLOWED_HOSTS = ["localhost", ".localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "hello.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
