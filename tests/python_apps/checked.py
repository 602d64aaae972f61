from wsgiref.validate import validator


@validator
def application(environ, start_response):
    chunked = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
    length = -1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    text = "%s %s %s " % (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
    answer = text.encode("latin-1") + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
