# Not everywhere.
if [ -e /dev/no-such-gpu ]; then
    echo 1..1
    echo "ok 1 - it computes"
else
    echo "1..0 # SKIP no such device here"
fi
