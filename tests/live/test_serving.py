"""Can nobody but a browser of this machine, with the secret, ask anything, and nothing that was not offered?"""

import http.client
import socket
from urllib.parse import urlsplit

import pytest

from wdyn.errors import InvalidArgument
from wdyn.live.serving import Reply, serving


def routes(name):
    return {"": Reply(b"page"), "state": Reply(b"{}", "application/json", "default-src 'self'")}.get(name)


@pytest.fixture
def url():
    with serving(routes) as url:
        yield url


def ask(url, path=None, *, method="GET", host=None):
    """Send one request; give its status, headers and body."""
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.hostname, split.port, timeout=30)
    connection.request(method, split.path if path is None else path, headers={"Host": host or split.netloc})
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, reply.headers, body


def test_server__answers_who_has_the_secret(url):
    status, headers, body = ask(url)
    assert (status, body) == (200, b"page")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_server__answers_by_name_with_its_own_policy(url):
    status, headers, body = ask(url, f"{urlsplit(url).path}state?7")
    assert (status, body) == (200, b"{}")
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Security-Policy"] == "default-src 'self'"


@pytest.mark.parametrize("path", ["/", "/state", "/wrong/", "/wrong/state", "//", "/%2e%2e/"])
def test_server__refuses_who_has_not(url, path):
    status, headers, body = ask(url, path)
    assert status == 403
    assert body == b"403 Forbidden\n"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_server__refuses_a_part_of_the_secret(url):
    path = urlsplit(url).path
    assert ask(url, f"{path[:-2]}/state")[0] == 403
    assert ask(url, f"{path[:-1]}x/state")[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:{port}.x"]
)
def test_server__refuses_a_foreign_name_that_leads_here(url, host):
    assert ask(url, host=host.format(port=urlsplit(url).port))[0] == 403


def test_server__answers_to_localhost(url):
    assert ask(url, host=f"localhost:{urlsplit(url).port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"])
def test_server__answers_get_only(url, method):
    status, headers, _ = ask(url, method=method)
    assert status == 405
    assert headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "name", ["nothing", "../state", "state/", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "state/../state"]
)
def test_server__knows_nothing_but_what_it_was_given(url, name):
    assert ask(url, urlsplit(url).path + name)[0] == 404


def test_server__refuses_what_is_no_request(url):
    split = urlsplit(url)
    with socket.create_connection((split.hostname, split.port), timeout=30) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert b"400 Bad Request" in connection.recv(1000)


def test_server__listens_on_loopback_alone(url):
    assert urlsplit(url).hostname == "127.0.0.1"
    with socket.socket() as other:  # the same port of another address of this machine is free
        other.bind(("127.0.0.2", urlsplit(url).port))


def test_server__has_a_new_secret_each_time():
    with serving(routes) as first, serving(routes) as second:
        assert urlsplit(first).path != urlsplit(second).path
        assert len(urlsplit(first).path) > 30


def test_server__frees_its_port():
    with serving(routes) as url:
        port = urlsplit(url).port
        with pytest.raises(InvalidArgument, match=f"Port {port} is taken. Choose another"), serving(routes, port=port):
            pass
    with serving(routes, port=port) as again:
        assert ask(again)[0] == 200


def test_server__says_nothing_of_a_browser_that_goes_away(url, capfd):
    split = urlsplit(url)
    with socket.create_connection((split.hostname, split.port)) as connection:
        connection.sendall(b"GET /")
    assert ask(url)[0] == 200
    assert capfd.readouterr() == ("", "")
