"""What the authors say about their published weights, whose SHA-256 they do not publish."""

from convert.imagenet import class_names
from convert.rule import Facts
from flaxmobile.preprocessing import Preprocessing


def facts(repository: str, standard: Preprocessing, sha256: str, num_classes: int) -> Facts:
    """Give every file the repository's preset for evaluation.

    Args:
      repository: its owner and name on GitHub.
      standard: the preset.
      sha256: of the file.
      num_classes: of the file.
    """
    del sha256
    return Facts(standard, class_names(num_classes), {"repository": repository})
