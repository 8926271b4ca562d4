"""The prepared format: arrays on disk that are found again by the request that they answer."""
