"""A server of a test's own, which says what the test has it say."""

import contextlib
import socket
import threading


@contextlib.contextmanager
def serving(*conversations):
    """Hold these conversations, one with each client, and lend the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=converse, args=(listener, conversations), daemon=True)
        thread.start()
        yield listener.getsockname()
        thread.join(10)
        assert not thread.is_alive()


def converse(listener, conversations):
    for conversation in conversations:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            conversation(connection)


def heard(connection, end=b"\r\n\r\n"):
    """What a client says up to the end given, or to its last byte."""
    data = b""
    while end not in data and (chunk := connection.recv(65536)):
        data += chunk
    return data


def answering(*chunks):
    """A conversation that hears one head and then says these chunks."""

    def conversation(connection):
        heard(connection)
        for chunk in chunks:
            connection.sendall(chunk)

    return conversation


def unused():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()
