"""Classic machine learning (domain ai.onnx.ml): linear models and kernel machines; their weights are attributes."""

from graphrewrite.cost.registry import macs_rule, moves, ops_rule, per_input, per_output, uncounted
from graphrewrite.cost.site import Site

_DOMAIN = "ai.onnx.ml"
_TREES = "the path through a tree depends on the sample; comparisons, no multiply-accumulates"


def _listed(site: Site, name: str) -> int:
    value = site.node.attrs.get(name)
    return len(value) if isinstance(value, (list, tuple)) else 0


def _samples(site: Site) -> int:
    sizes = site.input(0)
    return sizes[0] if len(sizes) > 1 else 1


@macs_rule("LinearClassifier", "LinearRegressor", domain=_DOMAIN)
def linear_model(site: Site) -> int:
    """Every coefficient once for each sample."""
    return _samples(site) * _listed(site, "coefficients")


@macs_rule("SVMClassifier", "SVMRegressor", domain=_DOMAIN)
def kernel_machine(site: Site) -> int:
    """The kernel of a sample with every support vector, then every coefficient once, for each sample."""
    return _samples(site) * (_listed(site, "support_vectors") + _listed(site, "coefficients"))


@ops_rule("SVMClassifier", "SVMRegressor", domain=_DOMAIN)
def kernel_function(site: Site) -> int:
    """One kernel function for each pair of sample and support vector; a machine without vectors is linear."""
    sizes = site.input(0)
    features = sizes[-1] if sizes else 1
    return _samples(site) * (_listed(site, "support_vectors") // max(features, 1))


per_output({"Binarizer": 1, "Imputer": 1, "Scaler": 2, "LabelEncoder": 1, "CategoryMapper": 1}, _DOMAIN)
per_input({"Normalizer": 3}, _DOMAIN)
moves(
    ("ArrayFeatureExtractor", "CastMap", "DictVectorizer", "FeatureVectorizer", "OneHotEncoder", "ZipMap"),
    _DOMAIN,
)
uncounted(
    {"TreeEnsemble": _TREES, "TreeEnsembleClassifier": _TREES, "TreeEnsembleRegressor": _TREES}, _DOMAIN
)
