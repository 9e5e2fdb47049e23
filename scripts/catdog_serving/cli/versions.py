"""catdog versions."""

from catdog_serving.cli.options import ConfigOption, configured_server, console


def versions(config: ConfigOption) -> None:
    """Show what is loaded, and what a restart or a rollback would load."""
    from catdog_serving.rollout.versions import loaded_versions, print_versions, stored_archives

    server = configured_server(config)
    print_versions(loaded_versions(server), stored_archives(server), console)
