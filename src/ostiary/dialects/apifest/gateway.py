"""The gateway as ApiFest's operators see it (apifest.md A6, A7): the listings and the reload."""

from ostiary.core.configuration.mapping import told
from ostiary.core.refusal import Invalid
from ostiary.dialects.apifest.asked import Asked, Row
from ostiary.dialects.apifest.words import HEADERS, USE_POST, answer, encoded, error
from ostiary.dialects.message import Answer


async def mappings(asked: Asked) -> Answer:
    """All versions with their endpoints, as the files have them."""
    return encoded(await asked.run_plain("mappings.list"))


async def errors(asked: Asked) -> Answer:
    """Status to message, ascending."""
    return encoded(await asked.run_plain("errors.list"))


async def reload(asked: Asked) -> Answer:
    """Read everything again; the answer comes when every worker serves it, or says each mistake."""
    try:
        await asked.run_plain("config.reload")
    except Invalid as refusal:
        texts = [told(mistake) for mistake in refusal.mistakes] or [refusal.message]
        return answer(*error(400, "; ".join(texts)))
    return Answer(200, headers=(*HEADERS[1:], *asked.receipt()))


async def reload_by_get(asked: Asked) -> Answer:
    """The same, while the settings allow it."""
    if not asked.settings.reload_by_get:
        return answer(*USE_POST, (("Allow", "POST"),))
    return await reload(asked)


ROWS = (
    Row("GET", "/apifest-mappings", "mappings.list", mappings),
    Row("GET", "/apifest-global-errors", "errors.list", errors),
    Row("POST", "/apifest-reload", "config.reload", reload),
    Row("GET", "/apifest-reload", "config.reload", reload_by_get),
)
