"""What every floor stands on: settings, files, registries."""
