"""Settings of the node: where operators reach it, what it keeps and writes down, and its name among others."""

from typing import Annotated, Literal

from ostiary.core.configuration.measure import Address, Host, Network, Url
from ostiary.core.configuration.settings.section import PortNumber, Section, about


class AdminSettings(Section, frozen=True):
    """The admin listener: every surface for operators."""

    listen: Annotated[
        Address, about("where operators connect; port 0: any free one", "127.0.0.1:8081", restart=True)
    ] = Address("127.0.0.1:8081")
    trusted_proxies: Annotated[
        list[Network], about("networks whose X-Forwarded-For and X-Forwarded-Proto are believed", "10.0.0.0/8")
    ] = []
    public_url: Annotated[
        str, about("how operators reach it, for addresses in answers; empty: as they asked", "https://ops.example")
    ] = ""
    hosts: Annotated[
        list[Host], about("names, beside addresses and localhost, by which trusted peers may call it", "ops.internal")
    ] = []


class StoreSettings(Section, frozen=True):
    """What must last."""

    url: Annotated[
        Url,
        about(
            "the database: sqlite:///PATH, where a relative path starts at the configuration's directory, "
            "or postgresql://USER@HOST:PORT/DATABASE; empty: ostiary.db in the state directory",
            "sqlite:///var/ostiary.db",
            restart=True,
        ),
    ] = Url("")


class LogSettings(Section, frozen=True):
    """What is written down."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], about("least level that is logged", "INFO")] = "INFO"
    format: Annotated[Literal["json", "text"], about("one JSON object a line, or text for people", "json")] = "json"
    access: Annotated[
        str, about("access log: a file, - for standard output, empty for none; opened anew at each reload", "-")
    ] = "-"


class ClusterSettings(Section, frozen=True):
    """How other nodes know this one."""

    address: Annotated[str, about("its address", "10.0.0.1", restart=True)] = "127.0.0.1"
    port: Annotated[PortNumber, about("its port", "9090", restart=True)] = 9090
