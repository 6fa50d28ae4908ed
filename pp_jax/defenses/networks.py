"""What defenses that own a network share: the check that it fits the victim."""


def check_classes(own: int, victims: int) -> None:
    """Refuse a network that knows another number of classes than the victim.

    Raises:
        ValueError: naming both numbers.
    """
    if own != victims:
        raise ValueError(f"the defense's network knows {own} classes, the victim's posterior has {victims}")
