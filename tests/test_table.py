from flaxmobile.table import RULE, format_table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("name", "count"), RULE, ("a", "1"), ("longer", "1,000,000")]
    assert format_table(rows, right=(1,)) == (
        "name        count\n─────────────────\na               1\nlonger  1,000,000"
    )


def test_no_line_ends_in_spaces():
    assert format_table([("a", "b"), ("aa", "")]) == "a   b\naa"


def test_wide_characters_take_two_columns():
    assert format_table([("雏菊", "1"), ("rose", "2")]) == "雏菊  1\nrose  2"
