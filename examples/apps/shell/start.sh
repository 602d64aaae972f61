# `exec`, so that the server is the process that the pool has started and stops.
exec python3 -m http.server "$1" --bind 127.0.0.1 --directory public
