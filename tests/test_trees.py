from flaxmobile.trees import as_tuples


def test_lists_become_tuples_at_any_depth():
    assert as_tuples([1, [2, "ab"], ([3],)]) == (1, (2, "ab"), ((3,),))
    assert as_tuples("ab") == "ab"
    assert as_tuples({"a": [1]}) == {"a": [1]}
