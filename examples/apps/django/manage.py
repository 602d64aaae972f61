#!/usr/bin/env python3
"""`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in this folder, then:
hatchery serve examples/apps/django"""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hello.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
