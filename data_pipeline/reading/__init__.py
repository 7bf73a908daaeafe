"""From a source in a config to documents: what there is, where it lies, which format it has."""
