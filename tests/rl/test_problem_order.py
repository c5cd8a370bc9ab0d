from crawl2chat.rl.problems import in_epochs


def test_an_epoch_takes_each_problem_once_in_an_order_of_its_own():
    taken = [i for step in range(6) for i in in_epochs(9, 3, seed=1, step=step)]
    assert sorted(taken[:9]) == sorted(taken[9:]) == list(range(9))
    assert taken[:9] != taken[9:]
    assert list(in_epochs(9, 4, 1, 2)) == taken[8:12]
