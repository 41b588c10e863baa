"""Names of operators' domains: ONNX's own has three, and every question about it is asked here."""


def domain_name(domain: str | None) -> str:
    """Return the name of an operator's domain, "" for ONNX's own under each of its names."""
    return "" if domain in (None, "ai.onnx") else str(domain)
