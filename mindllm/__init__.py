"""MindLLM: small bilingual (Chinese / English) language models, from token shards to an exported model."""

__version__ = "0.1.0"
