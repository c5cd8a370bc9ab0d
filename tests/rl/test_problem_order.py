from crawl2chat.rl.stage import problem_order
from crawl2chat.train.data import in_epochs


def test_an_epoch_takes_each_problem_once_in_an_order_of_its_own():
    taken = [i for step in range(6) for i in in_epochs(9, 3, 1, step, problem_order)]
    assert sorted(taken[:9]) == sorted(taken[9:]) == list(range(9))
    assert taken[:9] != taken[9:]
    assert in_epochs(9, 4, 1, 2, problem_order) == taken[8:12]
