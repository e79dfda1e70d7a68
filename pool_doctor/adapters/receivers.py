"""Which receivers of connection_created have to hear of each checkout, and which of each new connection only."""

from __future__ import annotations

from typing import Any

from django.core.signals import setting_changed
from django.db.backends.signals import connection_created
from django.utils.module_loading import import_string

from pool_doctor.adapters.conf import SETTING, get_settings

_PER_CONNECTION = ("django.contrib.postgres.signals.register_type_handlers",)


class EachCheckout:
    """Says whether some receiver may set what belongs to the request at hand, such as its tenant."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Look at receivers and settings anew."""
        self._seen: list[Any] | None = None
        self._answers: dict[type, bool] = {}

    def wanted(self, sender: type) -> bool:
        """Return whether connection_created is to be sent at each checkout for wrappers of this class."""
        receivers = connection_created.receivers
        if receivers != self._seen:
            self._seen = list(receivers)
            self._answers = {}
        answer = self._answers.get(sender)
        if answer is None:
            answer = self._answers[sender] = self._find(sender)
        return answer

    def _find(self, sender: type) -> bool:
        known = {*map(_function, _PER_CONNECTION), *map(import_string, get_settings().per_connection_receivers)}
        synchronous, asynchronous = connection_created._live_receivers(sender)  # noqa: SLF001 - no public way to ask
        return any(receiver not in known for receiver in (*synchronous, *asynchronous))


def _function(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:
        return None


each_checkout = EachCheckout()


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        each_checkout.forget()


setting_changed.connect(_forget, dispatch_uid="pool_doctor.receivers")
