"""`tamis ui`: the store as a web page."""

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, note, say


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8265, show_default=True, type=click.IntRange(0, 65535), help="Port; 0: any free one.")
@click.option(
    "--token",
    envvar="TAMIS_UI_TOKEN",
    help="Token to ask for. Also TAMIS_UI_TOKEN. Default beyond loopback: a random one.",
)
@click.option("--open/--no-open", "opens", default=False, show_default=True, help="Open the page in a browser.")
@common
def ui(app: App, host: str, port: int, token: str | None, opens: bool) -> None:
    """Show the store as a web page: datasets, selections, runs, losses, detections, packages, costs, SQL.

    Read-only. Listens on loopback unless --host says otherwise; other machines then need the token, which is part of
    the address that is printed. Every page has the same values as JSON at its address with .json added. Ctrl-C stops
    it.

    \b
    Examples:
      tamis ui --store work
      tamis ui --store work --port 0 --open
      tamis ui --store work --host 0.0.0.0
    """
    from tamis.flows.server.settings import server_url
    from tamis.flows.web.serving import serve, take

    place = take(host, port, token)
    store, api = app.open(), server_url()

    def ready() -> None:
        emit({"url": place.url}, app.as_json, lambda: say(f"{store.root.url} is shown at {place.url}"))
        if place.token is not None and not app.as_json:
            note(
                "Whoever has this address can read the store. Traffic is not encrypted: use a trusted network, or ssh."
            )
        if opens:
            import webbrowser

            webbrowser.open(place.url)

    serve(store, place, prefect=None if api is None else api.rstrip("/").removesuffix("/api"), ready=ready)
