"""What stands on the wire: parsers and renderers, free of IO."""
