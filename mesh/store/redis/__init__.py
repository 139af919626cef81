"""The store on a Redis server: ``store`` is its contract, the files beside it one idea each."""
