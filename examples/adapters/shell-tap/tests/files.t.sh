# A file in a directory of its own.
dir=$(mktemp -d) || exit 1
trap 'rm -r "$dir"' EXIT
echo 1..1
echo hello > "$dir/a"
if [ "$(cat "$dir/a")" = hello ]; then
    echo "ok 1 - what was written is read"
else
    echo "not ok 1 - what was written is read"
fi
