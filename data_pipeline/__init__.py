"""From raw pages to clean text and token shards. Never imports torch."""
