//! The loader for Python: WSGI and ASGI.
