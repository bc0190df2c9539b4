"""Authors' repositories: the names of their state dicts, one module per network."""

from convert.rules.authors import blazeface, ic_conv, mobilenext, shufflenet_v1, shufflenet_v2

RULES = {
    "mobilenext": mobilenext.RULE,
    "shufflenet_v1": shufflenet_v1.RULE,
    "shufflenet_v2": shufflenet_v2.RULE,
    "blazeface": blazeface.RULE,
    "ic_conv": ic_conv.RULE,
}
