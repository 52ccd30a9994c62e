"""A person at a browser without script: opens a page, fills in its form, presses a button, follows where it leads."""

from html.parser import HTMLParser
from urllib.parse import urljoin

import requests

PATIENCE = 60.0
Fields = dict[str, str]
SIGNED_IN = {"act": "sign_in", "username": "admin", "password": "change-me-please-1"}


class Page(HTMLParser):
    """The only form of a page: where it is sent, and its fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: Fields = {}
        self.buttons: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert (self.action, found["method"]) == ("", "post")
            self.action = found["action"]
        elif tag == "input":
            self.fields[found["name"]] = found.get("value", "")
        elif tag == "button":
            assert found["name"] == "act"
            self.buttons.add(found["value"])


class Person:
    """One person with one browser."""

    def __init__(self) -> None:
        self.browser = requests.Session()

    def allow(self, url: str, goal: str) -> str:
        """Sign in and allow what is asked at `url`; the address below `goal` to which that leads."""
        answer = self.browser.get(url, allow_redirects=False, timeout=PATIENCE)
        for _ in range(5):
            if "location" in answer.headers:
                place = urljoin(answer.url, answer.headers["location"])
                if place.startswith(goal):
                    return place
                answer = self.browser.get(place, allow_redirects=False, timeout=PATIENCE)
            else:
                assert answer.status_code == 200, answer.text
                answer = self._press(answer)
        raise AssertionError(f"it goes round in circles: {answer.url}")

    def _press(self, answer: requests.Response) -> requests.Response:
        page = Page(answer.text)
        filled = SIGNED_IN if "sign_in" in page.buttons else {"act": "allow"}
        place = urljoin(answer.url, page.action)
        return self.browser.post(place, page.fields | filled, allow_redirects=False, timeout=PATIENCE)

    def leave(self) -> None:
        """Close the browser."""
        self.browser.close()
