#!/bin/bash
# In mount, network and process namespaces of its own: a bridge with three machines on it, a coordinator on each.
# Everything ends with this script, because it is the first process of its namespace.
set -u
muster=$1
here=$PWD

for i in 1 2 3; do
  echo "10.77.0.$i coordinator$i.example.com" >> hosts
  mkdir -p "home-$i"
  mkfifo "go-$i"
done
mount --bind hosts /etc/hosts
ip link set lo up
ip link add br0 type bridge
ip addr add 10.77.0.254/24 dev br0
ip link set br0 up

# What a machine executes once it has its network.
on_machine() {
  local i=$1
  shift
  HOME=$here/home-$i unshare -n bash -c 'read -r _ < "$1"; shift; exec "$@"' machine "go-$i" "$@" > "coordinator-$i.log" 2>&1 &
  local pid=$! tries=0
  while [ "$(readlink "/proc/$pid/ns/net")" = "$(readlink /proc/$$/ns/net)" ]; do
    tries=$((tries + 1))
    [ "$tries" -gt 2000 ] && { echo "machine $i has no namespace"; exit 1; }
    sleep 0.005
  done
  ip link add "veth$i" type veth peer name eth0 netns "$pid"
  ip link set "veth$i" master br0 up
  nsenter -t "$pid" -n ip link set lo up
  nsenter -t "$pid" -n ip addr add "10.77.0.$i/24" dev eth0
  nsenter -t "$pid" -n ip link set eth0 up
  echo go > "go-$i"
}

# The command without the flags that a network asks for: it must say which.
HOME=$here/home-1 "$muster" coordinator --enable-redundancy --node-id "node-1" \
  --peers "coordinator2.example.com:8080,coordinator3.example.com:8080"
[ $? = 2 ] || { echo "it was not refused"; exit 1; }

on_machine 1 "$muster" coordinator --enable-redundancy --node-id "node-1" \
  --peers "coordinator2.example.com:8080,coordinator3.example.com:8080" \
  --listen 0.0.0.0:8080 --advertise coordinator1.example.com:8080 --insecure
on_machine 2 "$muster" coordinator --enable-redundancy --node-id "node-2" \
  --peers "coordinator1.example.com:8080,coordinator3.example.com:8080" \
  --listen 0.0.0.0:8080 --advertise coordinator2.example.com:8080 --insecure
on_machine 3 "$muster" coordinator --enable-redundancy --node-id "node-3" \
  --peers "coordinator1.example.com:8080,coordinator2.example.com:8080" \
  --listen 0.0.0.0:8080 --advertise coordinator3.example.com:8080 --insecure

cluster=coordinator1.example.com:8080,coordinator2.example.com:8080,coordinator3.example.com:8080
export HOME=$here
"$muster" worker --coordinator "$cluster" --name w1 --slots 2 > worker.log 2>&1 &
printf 'true\necho two\nsh -c "exit 0"\n' > jobs.txt
tries=0
until "$muster" nodes --cluster "$cluster" > nodes.txt 2>&1 && grep -q leader nodes.txt; do
  tries=$((tries + 1))
  [ "$tries" -gt 400 ] && { cat nodes.txt coordinator-*.log; exit 1; }
  sleep 0.05
done
"$muster" run --cluster "$cluster" --cmds jobs.txt
code=$?
"$muster" nodes --cluster "$cluster"
[ "$code" = 0 ] || cat coordinator-*.log worker.log
exit "$code"
