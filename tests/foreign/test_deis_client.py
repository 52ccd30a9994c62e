"""The Deis client 1.4.1 against a whole node: what people, their administrator and the owners of apps type, and what
they read."""

import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.house import OWNER, Node, ostiary, serving
from tests.foreign.deis_client import Commands, installed, spelled_anew, started

pytestmark = pytest.mark.asyncio(loop_scope="session")
CONFIGURATION = f"""
gateway: {{listen: "127.0.0.1:0", workers: 1}}
admin: {{listen: "127.0.0.1:0"}}
log: {{access: ""}}
{OWNER}
droplets:
  templates:
    web:
      default: true
      command: ["{{python}}", "-m", "http.server", "{{port}}", "--bind", "127.0.0.1", "--directory", "empty"]
      ports: [80]
      health: {{http: "/", port: 80, every: 200ms}}
    hello:
      command: ["{{python}}", "-u", "-c", "print('up'); import time; time.sleep(3600)"]
      types:
        web: ["{{python}}", "-u", "-c", "import os, time; print('hello', os.environ['WORD']); time.sleep(3600)"]
        worker: ["{{python}}", "-c", "import time; time.sleep(3600)"]
    crash: {{command: ["/bin/false"], restart: {{policy: never}}}}
"""
SWITCH = ["deisctl", "config", "controller", "set"]
PASSWORD = "--password=correct-horse-7"
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}UTC")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client is."""
    place = tmp_path_factory.mktemp("deis") / "client"
    installed(place)
    spelled_anew(place)
    return place


class House:
    """A node, and people with homes of their own who use the client."""

    def __init__(self, node: Node, commands: Commands) -> None:
        self.node = node
        self.commands = commands

    async def deis(self, who: str, command: str, *more: str, typed: str = "") -> tuple[int, str]:
        """The exit status of a command and what it says; times and identifiers, which nobody can foresee, by name."""
        words = [*command.split(), *more]
        status, said = await self.commands.run(self.node.place / who, *words, typed=typed)
        return status, UUID.sub("UUID", re.sub(r"done in [0-9]+s", "done in Ns", TIME.sub("TIME", said)))

    async def register(self, who: str) -> None:
        words = f"register {self.node.admin} --username={who} {PASSWORD} --email={who}@example.org"
        assert await self.deis(who, words) == (0, f"Registered {who}\nLogged in as {who}\n")

    async def login(self, who: str, password: str = PASSWORD) -> tuple[int, str]:
        return await self.deis(who, f"login {self.node.admin} --username={who} {password}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(client: Path) -> AsyncIterator[House]:
    """One node for all tests: each has people and apps of its own."""
    with tempfile.TemporaryDirectory(prefix="ost-") as directory:
        place = Path(directory)
        (place / "ostiary.yaml").write_text(CONFIGURATION.replace('"empty"', f'"{place}/empty"'))
        for name in ("empty", "liz", "late", "john", "admin", "bob", "ann", "joe", "al", "eve", "kim"):
            (place / name).mkdir()
        async with serving(place) as node:
            commands = await started(client)
            yield House(node, commands)
            await commands.end()


def error(line: str, detail: str) -> tuple[int, str]:
    return 1, f"{line}\nDetail:\n{detail}\n"


FORBIDDEN = error("403 FORBIDDEN", "You do not have permission to perform this action.")
NOT_FOUND = error("404 NOT FOUND", "Not found")
REFUSED = (1, "400 BAD REQUEST\n{'non_field_errors': ['Unable to log in with provided credentials.']}\n")


async def test_people_come_change_their_password_and_leave(house: House) -> None:
    await house.register("liz")
    assert await house.deis("liz", "whoami") == (0, f"You are liz at {house.node.admin}\n")
    assert await house.deis("liz", "passwd --password=wrong --new-password=correct-horse-8") == (
        1, 'Password change failed: {"detail":"Current password does not match"}\n'
    )  # fmt: skip
    changed = await house.deis("liz", f"passwd {PASSWORD} --new-password=correct-horse-8")
    assert changed == (0, "Password change succeeded.\n")
    assert await house.deis("liz", "apps") == (0, "=== Apps\n")
    assert await house.deis("liz", "logout") == (0, "Logged out\n")
    assert await house.deis("liz", "apps") == (
        1, "Could not find token. Use `deis login` or `deis register` to get started.\n"
    )  # fmt: skip
    assert await house.login("liz") == REFUSED
    assert await house.login("liz", "--password=correct-horse-8") == (0, "Logged in as liz\n")
    status, said = await house.deis("liz", "auth:cancel", typed="liz\ncorrect-horse-8\ny\n")
    assert (status, said.splitlines()[-1]) == (
        0,
        f'Cancel account "liz" at {house.node.admin}? (y/N) Account cancelled',
    )
    assert await house.login("liz", "--password=correct-horse-8") == REFUSED


async def test_the_operators_page(house: House) -> None:
    """The first user makes others administrators, and renews the token of one."""
    assert await house.login("admin", "--password=change-me-please-1") == (0, "Logged in as admin\n")
    await house.register("john")
    assert await house.deis("john", "perms:list --admin") == FORBIDDEN
    done = (0, "Adding john to system administrators... done\n")
    assert await house.deis("admin", "perms:create john --admin") == done
    status, said = await house.deis("john", "perms:list --admin")
    assert (status, re.findall(r'"username": "(.*)"', said)) == (0, ["admin", "john"])
    refused = "The owner cannot be demoted. Hand the ownership over first."
    status, said = await house.deis("john", "perms:delete admin --admin")
    assert (status, said) == (
        1, f"Remove admin from system administrators... 409 CONFLICT\nDetail:\n{refused}\n"
    )  # fmt: skip
    done = (0, "Remove john from system administrators... done\n")
    assert await house.deis("admin", "perms:delete john --admin") == done
    assert await house.deis("john", "perms:list --admin") == FORBIDDEN
    assert await ostiary(house.node.place, "tokens", "reissue", "john") == (
        0, "Tokens of john revoked: 1. john gets a new one at the next login.\n", ""
    )  # fmt: skip
    assert await house.deis("john", "apps") == error("401 UNAUTHORIZED", "Invalid token")
    assert await house.login("john") == (0, "Logged in as john\n")
    assert await house.deis("john", "apps") == (0, "=== Apps\n")


def processes(*rows: str) -> str:
    """As `ps` lists them, of one type."""
    return "\n".join(["=== shop Processes\n", "--- web: ", *rows, "", ""])


async def test_the_life_of_an_app(house: House) -> None:
    await house.register("bob")
    assert await house.deis("bob", "apps:create shop") == (0, "Creating application... done, created shop\n")
    assert await house.deis("bob", "apps") == (0, "=== Apps\nshop\n")
    fields = '"uuid": "UUID", "id": "shop", "owner": "bob", "url": "shop.ostiary.local", "structure": {}'
    lines = ",\n  ".join([*fields.split(", "), '"created": "TIME"', '"updated": "TIME"'])
    shown = f"=== shop Application\n{{\n  {lines}\n}}\n\n=== shop Processes\n\n=== shop Domains\nNo domains\n\n"
    assert await house.deis("bob", "info -a shop") == (0, shown)
    two = processes("web.1 up (v1)", "web.2 up (v1)")
    scaling = "Scaling processes... but first, coffee!\n"
    assert await house.deis("bob", "scale web=2 -a shop") == (0, f"{scaling}done in Ns\n{two}")
    assert await house.deis("bob", "ps -a shop") == (0, two)
    down = (0, f"{scaling}done in Ns\n{processes('web.1 up (v1)')}")
    assert await house.deis("bob", "scale web=1 -a shop") == down
    wrong = error("400 BAD REQUEST", "Container type cron does not exist in application")
    assert await house.deis("bob", "scale cron=1 -a shop") == (1, f"{scaling}{wrong[1]}")
    assert await house.deis("bob", "destroy -a shop", typed="no\n") == (
        0,
        "\n !    WARNING: Potentially Destructive Action\n !    This command will destroy the application: shop\n"
        ' !    To proceed, type "shop" or re-run this command with --confirm=shop\n\n> Destroy aborted\n',
    )
    assert await house.deis("bob", "destroy -a shop --confirm=shop") == (0, "Destroying shop... \ndone in Ns\n")
    assert await house.deis("bob", "apps") == (0, "=== Apps\n")
    assert await house.deis("bob", "info -a shop") == NOT_FOUND


async def test_configuration_builds_and_logs_of_an_app(house: House) -> None:
    await house.register("ann")
    assert await house.deis("ann", "create store") == (0, "Creating application... done, created store\n")
    assert await house.deis("ann", "config -a store") == (0, "=== store Config\nNo configuration\n")
    done = (0, "Creating config... done, v2\n\n=== store\nN: 7\nWORD: a b=é\n")
    assert await house.deis("ann", "config:set -a store N=7", "WORD=a b=é") == done
    assert await house.deis("ann", "config -a store") == (0, "=== store Config\nN         7\nWORD      a b=é\n")
    assert await house.deis("ann", "config:list --oneline -a store") == (0, "N=7 WORD=a b=é\n")
    assert await house.deis("ann", "config:pull -a store") == (0, "")
    assert (house.node.place / "ann" / ".env").read_text() == "N=7\nWORD=a b=é\n"
    unset = (0, "Creating config... done, v3\n\n=== store\nWORD: a b=é\n")
    assert await house.deis("ann", "config:unset N -a store") == unset
    refused = (1, "Creating config... 400 BAD REQUEST\n{'values': ['Invalid variable: LD_PRELOAD']}\n")
    assert await house.deis("ann", "config:set LD_PRELOAD=x -a store") == refused
    assert await house.deis("ann", "pull hello:latest -a store") == (0, "Creating build... done, v4\n")
    assert await house.deis("ann", "builds -a store") == (0, "=== store Builds\nUUID TIME\n")
    refused = (1, "Creating build... 400 BAD REQUEST\n{'image': ['Unknown template or image.']}\n")
    assert await house.deis("ann", "pull nothing -a store") == refused
    status, said = await house.deis("ann", "scale web=1 worker=1 -a store")
    assert (status, said.splitlines()[4:]) == (
        0, ["--- web: ", "web.1 up (v4)", "", "--- worker: ", "worker.1 up (v4)", ""]
    )  # fmt: skip
    unhealthy = "web.1 did not become healthy: Droplet store.web.1 exited with code 1"
    assert (await house.deis("ann", "scale worker=0 -a store"))[0] == 0
    status, said = await house.deis("ann", "pull crash -a store")
    assert (status, said) == (1, f"Creating build... 503 SERVICE UNAVAILABLE\nDetail:\n{unhealthy}\n")
    status, said = await house.deis("ann", "logs -a store")
    notes = "deployed hello:latest: v4", "scaled containers web=1, worker=1", "scaled containers worker=0"
    lines = [
        "created initial release",
        "added N, WORD: v2",
        "deleted N: v3",
        *notes,
        f"could not release v5 (deployed crash): {unhealthy}",
    ]
    assert (status, re.findall(r"TIME ostiary\[api\]: ann (.*)", said)) == (0, lines)


async def test_others_work_with_an_app_once_they_may(house: House) -> None:
    for who in ("joe", "al", "eve"):
        await house.register(who)
    assert await house.deis("joe", "create hall") == (0, "Creating application... done, created hall\n")
    done = (0, "Adding al to hall collaborators... done\n")
    assert await house.deis("joe", "perms:create al -a hall") == done
    assert await house.deis("joe", "sharing -a hall") == (0, '{\n  "users": [\n    "al"\n  ]\n}\n')
    assert await house.deis("al", "apps") == (0, "=== Apps\nhall\n")
    assert await house.deis("al", "config:set A=1 -a hall") == (0, "Creating config... done, v2\n\n=== hall\nA: 1\n")
    status, said = await house.deis("al", "perms:create eve -a hall")
    assert (status, said) == (1, f"Adding eve to hall collaborators... {FORBIDDEN[1]}")
    assert await house.deis("al", "destroy -a hall --confirm=hall") == (1, f"Destroying hall... \n{FORBIDDEN[1]}")
    assert await house.deis("eve", "apps") == (0, "=== Apps\n")
    assert await house.deis("eve", "ps -a hall") == await house.deis("eve", "ps -a none") == NOT_FOUND
    left = (0, "Removing al from hall collaborators... done\n")
    assert await house.deis("al", "perms:delete al -a hall") == left
    assert await house.deis("al", "config -a hall") == NOT_FOUND


NOT_SERVED = [
    ("run ls -a {}", "Running `ls`...\n", "run"),
    ("releases -a {}", "", "releases"),
    ("releases:info v1 -a {}", "", "releases"),
    ("rollback v1 -a {}", "Rolling back to v1... ", "releases"),
    ("domains:add a.example.org -a {}", "Adding a.example.org to {}... ", "domains"),
    ("domains:remove a.example.org -a {}", "Removing a.example.org from {}... ", "domains"),
    ("limits:set web=1G -a {}", "Applying limits... ", "limits"),
    ("limits:unset --cpu web -a {}", "Applying limits... ", "limits"),
    ("tags:set a=b -a {}", "Applying tags... ", "tags"),
    ("keys", "", "keys"),
    ("keys:remove bob", "Removing bob SSH Key... ", "keys"),
]


async def test_what_is_not_served_says_so_and_what_can_be_shown_of_it_is_shown(house: House) -> None:
    await house.register("kim")
    await house.deis("kim", "create plain")
    for command, first, name in NOT_SERVED:
        refused = error("501 NOT IMPLEMENTED", f"Not supported by this controller: {name}")
        assert await house.deis("kim", command.format("plain")) == (1, first.format("plain") + refused[1])
    unlimited = "=== plain Limits\n\n--- Memory\nUnlimited\n\n--- CPU\nUnlimited\n"
    assert await house.deis("kim", "limits -a plain") == (0, unlimited)
    assert await house.deis("kim", "tags -a plain") == (0, "=== plain Tags\nNo tags defined\n")
    assert await house.deis("kim", "domains -a plain") == (0, "=== plain Domains\nNo domains\n")


async def test_a_registration_that_cannot_be_says_why(house: House) -> None:
    words = f"register {house.node.admin} --username=admin --password=short --email=none"
    assert await house.deis("late", words) == (
        1,
        'Registration failed: {"username":["This field must be unique."],'
        '"password":["Ensure this field has at least 8 characters."],"email":["Enter a valid email address."]}\n',
    )
    assert await ostiary(house.node.place, *SWITCH, "registrationEnabled=0") == (
        0, "0\n", ""
    )  # fmt: skip
    words = f"register {house.node.admin} --username=late {PASSWORD} --email=late@example.org"
    assert await house.deis("late", words) == (
        1, 'Registration failed: {"detail":"You do not have permission to perform this action."}\n'
    )  # fmt: skip
    assert await ostiary(house.node.place, *SWITCH, "registrationEnabled=1") == (
        0, "1\n", ""
    )  # fmt: skip
    await house.register("late")
