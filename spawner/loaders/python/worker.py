# The serving loop of a worker that speaks the session protocol: kept connections and the listener are waited for
# together, so that one which says nothing is in nobody's way.

from select import EPOLLIN, EPOLLONESHOT, epoll

UNLIMITED = 16


class Server:
    """`threads` = 1: all in the main thread. More: each thread takes the next event, and what it is about is out
    of the others' sight until it is done."""

    def __init__(self, handle, threads):
        self.handle = handle
        self.threads = threads
        self.flags = EPOLLIN if threads == 1 else EPOLLIN | EPOLLONESHOT
        self.connections = {}
        self.stopping = False
        self.listener = _socket.socket(fileno=LISTENER)
        self.listener.setblocking(False)
        self.events = epoll()
        self.events.register(LISTENER, self.flags)
        # It is never read: all threads see it from the first byte on.
        self.stop_reader, self.stop_writer = os.pipe()
        os.set_blocking(self.stop_writer, False)
        self.events.register(self.stop_reader, EPOLLIN)

    def stop(self, number, frame):
        """A signal handler."""
        if not self.stopping:
            self.stopping = True
            os.write(self.stop_writer, b"!")

    def run(self):
        if self.threads == 1:
            self.loop()
            return
        from threading import Thread

        threads = [Thread(target=self.loop, name="worker-%d" % number, daemon=True) for number in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def loop(self):
        wait, connections = self.events.poll, self.connections
        while not self.stopping:
            for descriptor, _ in wait(-1, 1):
                connection = connections.get(descriptor)
                if connection is not None:
                    if not self.advance(connection):
                        self.close(connection)
                    elif self.threads != 1:
                        self.events.modify(descriptor, self.flags)
                elif descriptor == LISTENER and not self.stopping:
                    self.accept()

    def accept(self):
        try:
            descriptor, _ = self.listener._accept()
        except BlockingIOError:
            pass  # another has it
        except OSError as error:
            from time import sleep

            say("a connection can't be accepted: %s" % error)
            sleep(0.1)
        else:
            socket = _socket.socket(fileno=descriptor)
            socket.settimeout(None)
            self.connections[descriptor] = Connection(socket)
            self.events.register(descriptor, self.flags)
        if self.threads != 1:
            self.events.modify(LISTENER, self.flags)

    def advance(self, connection):
        """Serves what has come on a connection; whether it is kept."""
        if not connection.receive():
            return False
        try:
            while True:
                variables = connection.request()
                if variables is None:
                    return True
                if not variables:
                    connection.send(NO_CONTENT)
                    return False
                if not self.handle(connection, variables, not self.stopping):
                    return False
                if self.stopping:
                    return False
                if not connection.data:
                    return True
        except BadRequest as error:
            try:
                text = str(error).encode()
                connection.send(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
                    b"Connection: close\r\n\r\n%b" % (len(text), text)
                )
            except Gone:
                pass  # said below
        except Gone:
            pass  # likewise
        return False

    def close(self, connection):
        if connection.failed is not None:
            say("a client left: %s" % connection.failed)
        del self.connections[connection.descriptor]
        # Closing takes it out of the waiting set, unless the app forked meanwhile and its child has a copy.
        self.events.unregister(connection.descriptor)
        connection.socket.close()


def serve_sessions(state, handle):
    server = Server(handle, state.threads or UNLIMITED)
    on_leave(server.stop)
    state.channel.close()
    server.run()
    state.hooks.stop()
    # The interpreter runs what the app has registered for its end.


