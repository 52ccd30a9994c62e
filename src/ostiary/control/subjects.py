"""The subjects that operators can act on, each a module of operations. The registry is made from this list."""

from ostiary.control import (
    applications,
    apps,
    audit,
    caches,
    codes,
    config,
    credentials,
    deployments,
    director,
    droplets,
    jobs,
    keys,
    login,
    node,
    nodes,
    owned_apps,
    penalties,
    revisions,
    roles,
    routes,
    scopes,
    services,
    sessions,
    settings,
    stats,
    store,
    tokens,
    users,
    whereabouts,
)
from ostiary.control.registry import Registry

SUBJECTS = (
    applications, apps, audit, caches, codes, config, credentials, deployments, droplets, jobs, keys, login, node,
    owned_apps, penalties, revisions, roles, routes, scopes, services, sessions, settings, stats, store, tokens, users,
    director, nodes, whereabouts,
)  # fmt: skip


def registry() -> Registry:
    """Every operation that there is."""
    return Registry(SUBJECTS)
