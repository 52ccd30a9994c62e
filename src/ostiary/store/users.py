"""Users in SQL. The owner is single: an index of the database sees to it."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from ostiary.core.people import Role, User
from ostiary.core.permission import OWNER_ROLE
from ostiary.core.refusal import Conflict, NotFound
from ostiary.store.apps import end_shares, owns_apps
from ostiary.store.changes import keep, log
from ostiary.store.consents import end_logins, forget_user
from ostiary.store.people import Account, NewUser, Page, UserChange, UserFilter
from ostiary.store.ports import Changed, Record
from ostiary.store.roles import held_role, make_role, role_named
from ostiary.store.sql import Line, Row, Sql

COLUMNS = """
u.id, u.name, u.role, u.email, u.active, u.created, u.labels, u.attributes, u.ui_access, u.first_name, u.last_name,
u.last_login, u.cut_off, u.password <> '', u.totp IS NOT NULL"""
WIDTH = 15
"""Columns of a user."""
_ACCOUNT = f"""
SELECT {COLUMNS}, u.password, u.totp, u.totp_step, r.name, r.description, r.permissions
FROM users u LEFT JOIN roles r ON r.name = u.role"""
# An address first, where one was meant; no name is another user's address.
_NAMED = f"{_ACCOUNT} WHERE u.name = :name OR u.folded_email = :folded ORDER BY u.name = :name LIMIT 1"
_NUMBERED = f"{_ACCOUNT} WHERE u.id = :number"
_GET = f"SELECT {COLUMNS} FROM users u WHERE u.name = :name"
_AT = f"SELECT {COLUMNS} FROM users u WHERE u.folded_email = :folded"
_ANY = "SELECT 1 FROM users LIMIT 1"
_OWNED = "SELECT 1 FROM users WHERE role = 'owner'"
_TAKEN = """
SELECT CASE WHEN folded_name = :name OR folded_email = :name THEN 'user' ELSE 'email' END FROM users
WHERE id <> :but AND (folded_name IN (:name, :email) OR folded_email IN (:name, :email))
ORDER BY folded_name = :name OR folded_email = :name DESC LIMIT 1
"""
_CREATE = """
INSERT INTO users (name, folded_name, email, folded_email, role, active, created, password, labels, attributes,
  ui_access, first_name, last_name, totp)
VALUES (:name, :folded_name, :email, :folded_email, :role, :active, :created, :password, :labels, :attributes,
  :ui_access, :first_name, :last_name, :totp)
"""
_UPDATE = """
UPDATE users SET email = COALESCE(:email, email),
  folded_email = CASE WHEN :changed = 1 THEN :folded_email ELSE folded_email END,
  labels = COALESCE(:labels, labels), attributes = COALESCE(:attributes, attributes),
  ui_access = COALESCE(:ui_access, ui_access), first_name = COALESCE(:first_name, first_name),
  last_name = COALESCE(:last_name, last_name)
WHERE id = :number
"""
_ROLE = "UPDATE users SET role = :role WHERE id = :number"
_REKEY = "UPDATE users SET password = :password WHERE id = :number"
_TOTP = "UPDATE users SET totp = :sealed, totp_step = 0 WHERE id = :number"
_ACTIVE = "UPDATE users SET active = :active WHERE id = :number"
_CUT_OFF = "UPDATE users SET cut_off = :seq WHERE id = :number"
_DELETE = "DELETE FROM users WHERE id = :number"
_KNOWN = "SELECT 1 FROM known_addresses WHERE user_number = :number AND address = :address AND at > :since"
_FORGET = "DELETE FROM known_addresses WHERE user_number = :number"
_END_CREDENTIALS = """
UPDATE credentials SET ended = :at WHERE user_number = :number AND ended IS NULL AND digest <> :keep
"""
_DROP_CREDENTIALS = "DELETE FROM credentials WHERE user_number = :number"
_END_TOKENS = "UPDATE tokens SET revoked = :at WHERE user_id = :name AND user_id <> '' AND revoked IS NULL"
_WHICH = """
FROM users u WHERE (:any = 1 OR u.role IN (:each)) AND u.role NOT IN (:first, :second)
  AND (:active < 0 OR u.active = :active)
"""
_ORDERS = {"created": "u.id", "name": "u.folded_name"}

_encode = msgspec.json.Encoder().encode
_labels = msgspec.json.Decoder(tuple[str, ...]).decode
_attributes = msgspec.json.Decoder(dict[str, str | int | float | bool | None]).decode


def user_of(row: Row) -> User:
    """A user out of the columns COLUMNS."""
    return User(
        row[0], row[1], row[2], row[3], bool(row[4]), row[5], _labels(row[6]), _attributes(row[7]), bool(row[8]),
        row[9], row[10], row[11], row[12], bool(row[13]), bool(row[14]),
    )  # fmt: skip


def account(sql: Sql, number: int) -> Account:
    """The account of that number. Refuses NotFound `user.unknown`."""
    row = sql.row(_NUMBERED, number=number)
    if row is None:
        raise NotFound("user.unknown", "There is no such user")
    return _account(row)


def _account(row: Row) -> Account:
    user, rest = user_of(row), row[WIDTH:]
    return Account(user, held_role(user.role, rest[3:]), rest[0], rest[1] or b"", rest[2])


def _check_free(sql: Sql, name: str, email: str, but: int = 0) -> None:
    """Refuse Conflict `user.exists`, `email.exists`: names and addresses are one set, letter case aside."""
    folded = name.casefold()
    row = sql.row(_TAKEN, name=folded, email=email.casefold() or folded, but=but)
    if row is not None and row[0] == "user":
        raise Conflict("user.exists", "The user name is taken")
    if row is not None:
        raise Conflict("email.exists", "The address is taken")


def _check_role(sql: Sql, role: str) -> None:
    if role_named(sql, role) is None:
        raise NotFound("role.unknown", "There is no such role")


def _insert(sql: Sql, user: NewUser, role: str) -> None:
    sql.change(
        _CREATE, name=user.name, folded_name=user.name.casefold(), email=user.email,
        folded_email=user.email.casefold() or None, role=role, active=int(user.active), created=user.created,
        password=user.password, labels=_encode(user.groups).decode(), attributes=_encode(user.attributes).decode(),
        ui_access=int(user.ui_access), first_name=user.first_name, last_name=user.last_name, totp=user.totp or None,
    )  # fmt: skip


def _create(sql: Sql, user: NewUser, record: Record, first: str) -> User:
    alone = sql.row(_ANY) is None
    if first == "only" and not alone:
        raise Conflict("user.not_first", "Somebody is registered already")
    role = OWNER_ROLE if first == "owner" and alone else user.role
    if role == OWNER_ROLE and sql.row(_OWNED) is not None:
        raise Conflict("owner.exists", "The system cannot have multiple owners")
    if user.make_role and role_named(sql, role) is None:
        make_role(sql, Role(role), record.at)
    _check_role(sql, role)
    _check_free(sql, user.name, user.email)
    _insert(sql, user, role)
    log(sql, "user.created", user.name, record)
    row = sql.row(_GET, name=user.name)
    return user_of(row or ())


def _end_everything(sql: Sql, user: User, at: int, keep_digest: bytes = b"") -> int:
    """End what the user holds: own credentials and tokens of applications."""
    end_logins(sql, user.name)
    count = sql.change(_END_CREDENTIALS, number=user.number, at=at, keep=keep_digest)
    return count + sql.change(_END_TOKENS, name=user.name, at=at)


class SqlUsers:
    """Users in SQL."""

    def __init__(self, writer: Line, reader: Line, lister: Line) -> None:
        self._writer = writer
        self._reader = reader
        self._lister = lister

    async def named(self, name: str) -> Account | None:
        folded = name.casefold() if "@" in name else None
        row = await self._reader.each(lambda sql: sql.row(_NAMED, name=name, folded=folded))
        return None if row is None else _account(row)

    async def get(self, name: str) -> User | None:
        row = await self._reader.each(lambda sql: sql.row(_GET, name=name))
        return None if row is None else user_of(row)

    async def at(self, email: str) -> User | None:
        row = await self._reader.each(lambda sql: sql.row(_AT, folded=email.casefold())) if email else None
        return None if row is None else user_of(row)

    async def taken(self, name: str) -> bool:
        folded = name.casefold()
        return await self._reader.each(lambda sql: sql.row(_TAKEN, name=folded, email=folded, but=0)) is not None

    async def page(self, which: UserFilter) -> Page:
        hidden = (*which.hidden, "", "")[:2]
        values: dict[str, Any] = {
            "any": int(not which.roles), "first": hidden[0], "second": hidden[1],
            "active": -1 if which.active is None else int(which.active),
        }  # fmt: skip
        order = _ORDERS[which.order]
        statement = f"SELECT {COLUMNS} {_WHICH} ORDER BY {order} LIMIT :most OFFSET :offset"
        roles = which.roles or ("",)

        def unit(sql: Sql) -> Page:
            rows = sql.among(statement, roles, most=which.limit, offset=which.offset, **values)
            [(total,)] = sql.among(f"SELECT COUNT(*) {_WHICH}", roles, **values)
            return Page([user_of(row) for row in rows], total)

        return await self._lister.each(unit)

    async def empty(self) -> bool:
        return await self._reader.each(lambda sql: sql.row(_ANY)) is None

    async def create(self, user: NewUser, record: Record, *, first: Literal["only", "owner", "no"] = "no") -> User:
        return await self._writer.each(lambda sql: _create(sql, user, record, first))

    async def update(self, number: int, change: UserChange, record: Record) -> Changed[User]:
        email = None if change.email is UNSET else change.email
        values = {
            "email": email,
            "changed": int(email is not None),
            "folded_email": (email or "").casefold() or None,
            "labels": None if change.groups is UNSET else _encode(change.groups).decode(),
            "attributes": None if change.attributes is UNSET else _encode(change.attributes).decode(),
            "ui_access": None if change.ui_access is UNSET else int(change.ui_access),
            "first_name": None if change.first_name is UNSET else change.first_name,
            "last_name": None if change.last_name is UNSET else change.last_name,
        }

        def unit(sql: Sql, user: User) -> None:
            if email:
                _check_free(sql, user.name, email, but=number)
            sql.change(_UPDATE, number=number, **values)

        return await self._changed(number, record, "user.changed", unit)

    async def set_role(self, number: int, role: str, record: Record) -> Changed[User]:
        def unit(sql: Sql, user: User) -> None:
            second = role == OWNER_ROLE and sql.row(_OWNED) is not None
            if role != user.role and (second or user.role == OWNER_ROLE):
                raise Conflict("owner.role", "Ownership is handed over, not given or taken")
            _check_role(sql, role)
            sql.change(_ROLE, number=number, role=role)

        return await self._changed(number, record, "user.changed", unit)

    async def transfer(self, owner: int, heir: int, record: Record) -> Changed[User]:
        def unit(sql: Sql, user: User) -> None:
            if account(sql, owner).user.role != OWNER_ROLE:
                raise Conflict("owner.other", "Only the owner hands ownership over")
            sql.change(_ROLE, number=owner, role="admin")
            sql.change(_ROLE, number=heir, role=OWNER_ROLE)

        return await self._changed(heir, record, "user.changed", unit)

    async def set_password(
        self, number: int, password: str, record: Record, keep: bytes = b"", *, ends: bool = True
    ) -> Changed[int]:
        def unit(sql: Sql) -> Changed[int]:
            user = account(sql, number).user
            sql.change(_REKEY, number=number, password=password)
            if not ends:
                return Changed(log(sql, "user.changed", user.name, record), 0)
            count = _end_everything(sql, user, record.at, keep)
            return Changed(log(sql, "user.revoked", user.name, record), count)

        return await self._writer.each(unit)

    async def set_totp(self, number: int, sealed: bytes, record: Record, *, again: bool) -> Changed[bytes]:
        def unit(sql: Sql) -> Changed[bytes]:
            found = account(sql, number)
            if found.totp and not again:
                keep(sql, [record])
                return Changed(0, found.totp)
            sql.change(_TOTP, number=number, sealed=sealed)
            return Changed(log(sql, "user.changed", found.user.name, record), sealed)

        return await self._writer.each(unit)

    async def set_active(self, number: int, active: bool, record: Record) -> Changed[User]:
        def unit(sql: Sql, user: User) -> None:
            if user.role == OWNER_ROLE and not active:
                raise Conflict("owner.active", "The owner cannot be disabled")
            sql.change(_ACTIVE, number=number, active=int(active))

        if active:
            return await self._changed(number, record, "user.enabled", unit)
        return await self._changed(number, record, "user.disabled", unit, cut_off=True)

    async def cut_off(self, number: int, record: Record) -> Changed[User]:
        return await self._changed(number, record, "user.cut_off", lambda sql, user: None, cut_off=True)

    async def lift(self, number: int, record: Record) -> Changed[User]:
        def unit(sql: Sql, user: User) -> None:
            sql.change(_CUT_OFF, number=number, seq=None)

        return await self._changed(number, record, "user.cut_off_lifted", unit)

    async def delete(self, number: int, record: Record) -> int:
        def unit(sql: Sql) -> int:
            user = account(sql, number).user
            if user.role == OWNER_ROLE:
                raise Conflict("owner.delete", "The owner cannot be deleted")
            if owns_apps(sql, number):
                raise Conflict("user.owns_apps", f"{user.name} still owns apps")
            end_shares(sql, number)
            forget_user(sql, user.name)
            sql.change(_END_TOKENS, name=user.name, at=record.at)
            for statement in (_DROP_CREDENTIALS, _FORGET, _DELETE):
                sql.change(statement, number=number)
            return log(sql, "user.deleted", user.name, record)

        return await self._writer.each(unit)

    async def known(self, number: int, address: str, since: int) -> bool:
        row = await self._reader.each(lambda sql: sql.row(_KNOWN, number=number, address=address, since=since))
        return row is not None

    async def _changed(
        self, number: int, record: Record, kind: str, work: Callable[[Sql, User], None], *, cut_off: bool = False
    ) -> Changed[User]:
        """Change a user that exists; with `cut_off`, all that was issued up to this very change is refused."""

        def unit(sql: Sql) -> Changed[User]:
            before = account(sql, number).user
            work(sql, before)
            seq = log(sql, kind, before.name, record)
            if cut_off:
                end_logins(sql, before.name)
                sql.change(_CUT_OFF, number=number, seq=seq)
            return Changed(seq, account(sql, number).user)

        return await self._writer.each(unit)
