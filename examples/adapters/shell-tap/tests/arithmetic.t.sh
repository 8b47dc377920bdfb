# Sums, as the shell has them.
echo 1..2
[ $((2 + 3)) = 5 ] && echo "ok 1 - it adds" || echo "not ok 1 - it adds"
[ $((7 % 4)) = 3 ] && echo "ok 2 - it has a remainder" || echo "not ok 2 - it has a remainder"
