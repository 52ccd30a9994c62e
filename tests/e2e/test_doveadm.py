"""doveadm against a whole node: the command as a newcomer meets it, runbooks over HTTP, stopping, and garbage."""

import asyncio
import json
import random
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.e2e.crowd import basic, bearer, each, request
from tests.e2e.house import LIMIT, OWNER, Answer, Backend, Client, Node, configuration, ostiary, serving
from tests.e2e.test_races import Racing
from tests.listening import listening

SERVICE = basic("doveadm", "hello")
ADMIN = basic("admin", "change-me-please-1")
MORE = f"""\
  - {{match: "GET /steered", upstream: mail}}
  - {{match: "GET /counted", upstream: counted}}
{OWNER}"""
DIRECTOR = 'mail: {servers: ["127.0.0.11:1"], balance: director, user_from: header X-User}'
SILENT = (0, "", "")


class Counted:
    """A backend that knows how many requests it answered."""

    def __init__(self) -> None:
        self.port, self.answered = 0, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            self.answered += 1


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    found = Counted()
    async with listening(found.serve) as listener:
        found.port = listener.port
        yield found


@pytest.fixture
async def node(place: Path, behind: Backend, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    """Two workers, a director, a password for doveadm; the shell knows where the admin listener is."""
    text = configuration(behind.port, MORE)
    text = text.replace("dialects: {", "dialects: {doveadm: {password: {file: doveadm.pass}}, ")
    upstream = f'counted: {{servers: ["127.0.0.1:{counted.port}"]}}'
    (place / "ostiary.yaml").write_text(text.replace("upstreams: {", f"upstreams: {{{DIRECTOR}, {upstream}, "))
    (place / "doveadm.pass").write_text("hello\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    for name in ("OSTIARY_TOKEN", "OSTIARY_PASSWORD", "OSTIARY_USER", "OSTIARY_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with serving(place, "--workers", "2") as running:
        monkeypatch.setenv("OSTIARY_URL", running.admin)
        yield running


async def doveadm(node: Node, *words: str) -> tuple[int, str, str]:
    return await ostiary(node.place, "doveadm", "--password", "@doveadm.pass", *words)


def batch(commands: object, query: str = "", **headers: str) -> bytes:
    return request("POST", f"/doveadm/v1{query}", commands, Authorization=SERVICE, **headers)


async def post(node: Node, commands: object, query: str = "", **headers: str) -> Answer:
    (answer,) = await each(node.admin, [batch(commands, query, **headers)], 1)
    return answer


@asynccontextmanager
async def connected(node: Node, user: str) -> AsyncIterator[Client]:
    """A connection that the user has used once. The user has an account, and a token of a client application."""
    account = {"name": user, "email": f"{user}@example.com", "password": "correct-horse-7", "role": "viewer"}
    (made,) = await each(node.admin, [request("POST", "/operations/users.create", account, Authorization=ADMIN)], 1)
    assert made.status == 200, made.body
    racing = Racing(node, await node.client())
    client = Client(node.gateway, (await racing.tokens(await racing.code(user)))["access_token"])
    assert (await client.ask("GET", "/closed")).status == 200
    try:
        yield client
    finally:
        client.close()


# -- as a newcomer meets it


async def test_a_newcomer_finds_the_way(node: Node) -> None:
    assert "doveadm" in (await ostiary(node.place, "--help"))[1]
    status, said, _ = await ostiary(node.place, "doveadm", "--help")
    assert status == 0
    assert [word in said for word in ("who", "director", "--api-key", "@FILE", "Exit status")] == [True] * 5
    refused = "Error: The credential was refused: sign in with `ostiary login`, or give --api-key or --password\n"
    assert await ostiary(node.place, "doveadm", "who") == (77, "", refused)
    assert await doveadm(node, "who") == (0, "username # proto (pids) (ips)\n", "")
    async with connected(node, "ann"):
        (pid,) = {pid for pid in node.children("worker") if f"({pid})" in (await doveadm(node, "who"))[1]}
        heading = f"username # proto {'(pids)'.ljust(len(f'({pid})'))} (ips)"
        told = f"{heading}\nann      1 http  {f'({pid})'.ljust(6)} (127.0.0.1)\n"
        assert await doveadm(node, "who", "a*") == (0, told, "")
        assert await doveadm(node, "-f", "json", "who", "-1") == (
            0, f'[{{"username":"ann","service":"http","pid":"{pid}","ip":"127.0.0.1"}}]\n', "",
        )  # fmt: skip
        assert await doveadm(node, "--dry-run", "-f", "tab", "kick", "ann") == (
            0, "dry_run\toperation\ttarget\tchange\n1\tsessions.kick\tann\twould end ann\n", "",
        )  # fmt: skip
        assert await doveadm(node, "kick", "ann") == (0, "kicked connections from the following users:\nann\n", "")
        assert await doveadm(node, "kick", "ann") == (68, "", "no users kicked\n")


async def test_the_director_is_run_from_a_shell(node: Node) -> None:
    assert (await ostiary(node.place, "login", node.admin, "--user", "admin", "--password-file", "owner.pass"))[0] == 2
    (node.place / "owner.pass").write_text("change-me-please-1\n")
    assert (await ostiary(node.place, "login", node.admin, "--user", "admin", "--password-file", "owner.pass"))[0] == 0
    heading = "mail server ip tag vhosts state state changed users\n"
    assert await ostiary(node.place, "doveadm", "director", "status") == (
        0,
        f"{heading}127.0.0.11         100    up    -             0\n",
        "",
    )
    assert await doveadm(node, "director", "add", "-t", "eu", "127.0.0.12", "7") == SILENT
    assert await doveadm(node, "director", "down", "127.0.0.12") == SILENT
    assert await doveadm(node, "director", "move", "samik", "127.0.0.11") == SILENT
    status, said, _ = await doveadm(node, "director", "status", "samik")
    current, *rest = said.splitlines()
    assert current.startswith("Current: 127.0.0.11 (expires ")
    assert (status, rest) == (0, ["Hashed: 127.0.0.11", "Initial config: 127.0.0.11"])
    assert await doveadm(node, "director", "map", "-u", "samik") == (0, "3853430566\n", "")
    status, dumped, _ = await doveadm(node, "director", "dump")
    assert dumped.splitlines() == [
        "ostiary doveadm director add 127.0.0.11 100", "ostiary doveadm director add -t eu 127.0.0.12 7",
        "ostiary doveadm director down 127.0.0.12",
    ]  # fmt: skip
    assert await doveadm(node, "director", "remove", "127.0.0.12") == SILENT
    for line in dumped.splitlines():
        assert await ostiary(node.place, *shlex.split(line)[1:]) == SILENT
    assert await doveadm(node, "director", "dump") == (0, dumped, "")


# -- over HTTP


async def test_one_request_is_a_whole_runbook(node: Node) -> None:
    async with connected(node, "ann") as client:
        commands = [
            ["reload", {}, "1"], ["caches.flush", {}, "2"], ["tokens.revoke_all", {"user": "ann"}, "3"],
            ["kick", {"mask": "ann"}, "4"], ["who", {}, "5"],
        ]  # fmt: skip
        answer = await post(node, commands)
        kinds = [(kind, tag) for kind, _, tag in answer.json]
        assert (answer.status, kinds) == (200, [("doveadmResponse", tag) for tag in "12345"])
        rows = [rows for _, rows, _ in answer.json]
        assert (rows[0], rows[3], rows[4]) == ([], [{"result": "ann"}], [])
        assert rows[2] == [{"user": "ann", "active": True, "revoked": True}]
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.ask("GET", "/closed")
        (refused,) = await each(node.gateway, [bearer("/closed", client.token)], 1)
        assert refused.status == 401


async def test_ten_equal_requests_with_one_key_at_once_run_once(node: Node) -> None:
    ann = {"user": "ann", "email": "ann@example.com", "password": "correct-horse-7", "role": "viewer"}
    commands = [["users.create", ann, "1"]]
    key = {"Idempotency-Key": "once"}
    answers = await each(node.admin, [batch(commands, **key)] * 10, 10)
    done = [answer for answer in answers if answer.status == 200]
    running = [answer for answer in answers if answer.status != 200]
    assert {(answer.status, answer.body) for answer in running} <= {
        (409, b"A request with this Idempotency-Key is running\r\n")
    }
    assert [answer.headers.get("idempotency-replayed") for answer in done].count(None) == 1
    assert len({answer.body for answer in done}) == 1
    assert done[0].json[0][0] == "doveadmResponse"
    again = await post(node, commands, **key)
    assert (again.body, again.headers["idempotency-replayed"]) == (done[0].body, "true")
    other = await post(node, [["who", {}, "1"]], **key)
    assert (other.status, other.body) == (422, b"Idempotency-Key was used with another request\r\n")
    asked = {"action": "users.create", "limit": 100}
    (audit,) = await each(node.admin, [request("POST", "/operations/audit.list", asked, Authorization=ADMIN)], 1)
    assert [record["target"] for record in audit.json if record["target"] == "ann"] == ["ann"]


PIECES = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"null", b"true", b"1e999", b"-", b"\x00",
    b"\xff\xfe", b"\xc3", b"\xef\xbb\xbf", b" " * 1000, b"[" * 40, b"9" * 400, b'["kick",{"mask":', b'"directorMove"',
    b'{"user":"a","host":"', b"10.0.0.1", b'["statsDump",{"type":"', b'["serviceStop",{"service":["',
]  # fmt: skip
COMMANDS = [
    b'["who",{},"t"]', b'["directorAdd",{"host":["x"]},""]', b'["who",{"mask":{}},"t"]',
    b'["nodes.add",{"port":1e400},"t"]', b'["kick",{"mask":["\\u0000","::/0"]},""]', b'[7,{},"t"]',
]  # fmt: skip


async def test_garbage_is_never_an_error_of_the_server(node: Node) -> None:
    chosen = random.Random(7)
    bodies = [b"".join(chosen.choices(PIECES, k=chosen.randrange(12))) for _ in range(1_500)]
    bodies += [b"[" + b",".join(chosen.choices(COMMANDS, k=3)) + b"]" for _ in range(50)]
    bodies += [chosen.randbytes(chosen.randrange(200)) for _ in range(500)]
    answers = await each(node.admin, [batch(body) for body in bodies])
    for body, answer in zip(bodies, answers, strict=True):
        if answer.status == 200:
            assert all(len(entry) == 3 for entry in answer.json), body
        else:
            assert (answer.status, answer.body[-2:]) == (400, b"\r\n"), body
    assert 0 < sum(answer.status == 200 for answer in answers) < len(answers)
    assert "internalError" not in "".join(answer.body.decode() for answer in answers)
    assert (await post(node, [["who", {}, "t"]])).json == [["doveadmResponse", [], "t"]]


# -- stopping


async def refused(node: Node) -> bool:
    """Whether nobody listens for clients."""
    place = urlsplit(node.gateway)
    try:
        _, writer = await asyncio.open_connection(place.hostname, place.port)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # It was closed while this waited to be accepted.
    writer.close()
    return False


class Load:
    """Clients that ask all the time, each on a connection that it keeps as long as it is kept."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.answered = 0
        self.wrong: list[object] = []
        self.ending = False
        self.wanted, self.enough = 0, asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(16)))

    async def _client(self) -> None:
        client = Client(self.node.gateway)
        while not self.ending:
            try:
                answer = await client.ask("GET", "/counted")
            except asyncio.IncompleteReadError as error:
                client.close()  # It may end just when it is used: RFC 9112 section 9.6.
                if error.partial:
                    self.wrong.append(error)
            except ConnectionError:
                client.close()
                await asyncio.sleep(0)
            else:
                self._answered(answer)
                if answer.headers.get("connection") == "close":
                    client.close()
        client.close()

    def _answered(self, answer: Answer) -> None:
        self.answered += 1
        if self.answered >= self.wanted:
            self.enough.set()
        if answer.status != 200:
            self.wrong.append((answer.status, answer.body))

    async def more(self, number: int = 50) -> None:
        """Return when so many more have been answered."""
        self.wanted = self.answered + number
        self.enough.clear()
        await asyncio.wait_for(self.enough.wait(), LIMIT)


@asynccontextmanager
async def loaded(node: Node) -> AsyncIterator[Load]:
    load = Load(node)
    task = asyncio.create_task(load.run())
    try:
        await load.more()
        yield load
    finally:
        load.ending = True
        async with asyncio.timeout(LIMIT):
            await task


async def test_the_answer_to_stop_arrives_whole_and_no_exchange_fails(
    node: Node, behind: Backend, counted: Counted
) -> None:
    slow = Client(node.gateway)
    held = asyncio.create_task(slow.ask("GET", "/slow"))
    await asyncio.wait_for(behind.arrived.wait(), LIMIT)
    async with loaded(node) as load:
        answer = await post(node, [["stop", {}, "1"], ["who", {}, "2"]])
        assert (answer.status, answer.body) == (
            200, b'[["doveadmResponse",[],"1"],["error",{"type":"exitCode", "exitCode":75},"2"]]',
        )  # fmt: skip
        async with asyncio.timeout(LIMIT):
            while not await refused(node):
                pass
        assert node.process.returncode is None
        behind.go.set()
        assert (await held).body == b"hello"
        assert await asyncio.wait_for(node.process.wait(), LIMIT) == 0
    slow.close()
    assert (load.wrong, load.answered) == ([], counted.answered)


async def test_the_command_stop_ends_the_node(node: Node) -> None:
    assert await doveadm(node, "stop") == SILENT
    assert await asyncio.wait_for(node.process.wait(), LIMIT) == 0
    status, output, errors = await doveadm(node, "who")
    assert (status, output, errors.count("\n")) == (75, "", 1)
    assert errors.startswith(f"Error: cannot reach {node.admin}: ")


async def test_a_service_that_is_stopped_under_load_comes_back_by_a_reload(
    node: Node, behind: Backend, counted: Counted
) -> None:
    slow = Client(node.gateway)
    held = asyncio.create_task(slow.ask("GET", "/slow"))
    await asyncio.wait_for(behind.arrived.wait(), LIMIT)
    async with loaded(node) as load:
        assert await doveadm(node, "service", "stop", "http") == SILENT
        assert await refused(node)
        status, said, _ = await doveadm(node, "-f", "json", "service", "status", "http")
        (row,) = json.loads(said)
        assert (status, row["listening"], row["doveadm_stop"]) == (0, "n", "y")
        behind.go.set()
        assert (await held).body == b"hello"
        assert await doveadm(node, "reload") == SILENT
        assert not await refused(node)
        await load.more()
    slow.close()
    assert (load.wrong, load.answered) == ([], counted.answered)


async def test_a_reload_of_a_broken_file_is_78_and_says_where(node: Node) -> None:
    node.configure("nothing: of the kind\n")
    status, output, errors = await doveadm(node, "reload")
    assert (status, output, errors.count("\n")) == (78, "", 1)
    assert "ostiary.yaml:1" in errors
    assert (await doveadm(node, "who"))[0] == 0
