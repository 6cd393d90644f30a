"""What a plugin's author fills in."""

from __future__ import annotations

from typing import Any

from .host import HostClient


class PluginError(Exception):
    """The plugin's own answer "no": its text reaches the caller as it is. Any other exception is reported with its type."""


class Module:
    """A plugin's behaviour. Override what the manifest declares; the rest answers with an error or with nothing.

    Every method gets the host client of the call at hand: what it asks counts for that call and shares its deadline.
    Parameters are parsed JSON, results are anything that `json.dumps` takes. Methods run on several threads at once.
    """

    def init(self, host: HostClient, config: Any) -> None:
        """Takes the config. Raising refuses to start."""

    def bootstrap(self, host: HostClient) -> None:
        """Runs when the host asks for it, once it has started the plugin."""

    def is_ready(self) -> bool:
        return True

    def command(self, host: HostClient, context: Any, content: Any) -> Any:
        raise PluginError("this plugin has no commands")

    def form(self, host: HostClient, context: Any, values: dict[str, str]) -> Any:
        raise PluginError("this plugin has no forms")

    def rules(self, host: HostClient) -> Any:
        return []

    def help(self, host: HostClient) -> Any:
        return {}

    def ability_call(self, host: HostClient, operation: str, params: Any) -> Any:
        raise PluginError(f"unknown operation {operation}")

    def webhook_convert(self, host: HostClient, payload: bytes) -> Any:
        raise PluginError("this plugin converts no webhooks")

    def oauth_callback(self, host: HostClient, state: str, code: str) -> Any:
        raise PluginError("this plugin is no OAuth provider")
