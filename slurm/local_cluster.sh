#!/usr/bin/env bash
# A SLURM cluster on this machine alone, to try and test sweeps on: without systemd and cgroups,
# on the loopback interface, with all files in one folder.
#
#   slurm/local_cluster.sh start    install missing Debian packages, start, wait for every node;
#                                   prints the line that clients need: eval "$(… start)"
#   slurm/local_cluster.sh stop     cancel all jobs, stop the daemons, delete the folder
#   slurm/local_cluster.sh status   show daemons and nodes; exit 0 where every node answers
#
# Settings, as environment variables:
#   CLUSTER_DIR         the folder (default: /tmp/pmpo-slurm-<uid>)
#   CLUSTER_NODES       emulated nodes (2)        CLUSTER_GPUS    fake GPUs per node (4)
#   CLUSTER_CPUS        CPUs per node (16)        CLUSTER_MEMORY  MB per node (65536); need not exist
#   CLUSTER_ACCOUNTING  yes: with slurmdbd on MariaDB, so that sacct works; no (default)
#   CLUSTER_ARRAY       largest array index plus one (1001, SLURM's own default)
#   CLUSTER_GRACE       seconds from preemption to kill (20)
#
# Partitions: `main`, and `urgent`, which preempts it. A preempted job first gets the signal of its
# option --signal.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

dir=${CLUSTER_DIR:-/tmp/pmpo-slurm-$(id -u)}
nodes=${CLUSTER_NODES:-2} gpus=${CLUSTER_GPUS:-4} cpus=${CLUSTER_CPUS:-16}
memory=${CLUSTER_MEMORY:-65536} accounting=${CLUSTER_ACCOUNTING:-no}
array=${CLUSTER_ARRAY:-1001} grace=${CLUSTER_GRACE:-20}
export SLURM_CONF=$dir/slurm.conf
unset "${!SLURM_JOB@}" "${!SLURM_STEP@}" "${!SBATCH_@}" # when called from inside another job

say() { echo "local_cluster: $*" >&2; }
fail() { say "$*"; exit 1; }

# ------------------------------------------------------------------ packages
install_missing() {
	local need="munged:munge sbatch:slurm-client slurmctld:slurmctld slurmd:slurmd" missing="" pair
	[ "$accounting" = no ] || need="$need slurmdbd:slurmdbd mariadbd:mariadb-server-core"
	for pair in $need; do command -v "${pair%:*}" >/dev/null || missing="$missing ${pair#*:}"; done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || fail "missing:$missing - and no apt-get to install them with"
	[ "$(id -u)" = 0 ] || fail "missing:$missing - run once as root, or: sudo apt-get install$missing"
	say "installing$missing"
	# The packages' services must not start: they would need /etc/slurm and systemd.
	local policy=/usr/sbin/policy-rc.d ours=no
	[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; ours=yes; }
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } \
		>"$dir/log/apt.log" 2>&1 || { tail -n 5 "$dir/log/apt.log" >&2; fail "apt-get failed"; }
	[ $ours = no ] || rm -f $policy
}

# ------------------------------------------------------------------ configuration
free_port() { # the next unused port; below the range of outgoing connections
	until ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
	echo $port
}
node_names() { seq -f 'node%g' 0 $((nodes - 1)); }

write_configuration() {
	local port=$((12000 + RANDOM % 18000)) i version # several clusters may start at once
	version=$(slurmctld -V | sed -E 's/[^0-9]*([0-9]+)\.([0-9]+).*/\1\2/') # 22.05.8 is 2205
	local ctld dbd
	ctld=$(free_port); port=$((ctld + 1)); dbd=$(free_port); port=$((dbd + 1))
	cat >"$SLURM_CONF" <<-CONF
		ClusterName=local
		SlurmctldHost=$(hostname -s)(127.0.0.1)
		SlurmctldPort=$ctld
		SlurmUser=$(id -un)
		SlurmdUser=$(id -un)
		AuthType=auth/munge
		# cred_expire is also how long a requeued job waits before it may start again
		AuthInfo=socket=$dir/run/munge,cred_expire=5
		CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
		StateSaveLocation=$dir/state
		SlurmdSpoolDir=$dir/spool/%n
		SlurmctldPidFile=$dir/run/ctld.own
		SlurmdPidFile=$dir/run/%n.own
		SlurmctldLogFile=$dir/log/slurmctld
		SlurmdLogFile=$dir/log/slurmd-%n
		MpiDefault=none
		ProctrackType=proctrack/pgid
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		SlurmdParameters=config_overrides
		PropagateResourceLimits=NONE
		ReturnToService=2
		KillWait=5
		SlurmdTimeout=15
		MinJobAge=3600
		MaxArraySize=$array
		EnforcePartLimits=ALL
		SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
		DependencyParameters=kill_invalid_depend
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU_Memory
		DefMemPerCPU=100
		JobRequeue=1
		PreemptType=preempt/partition_prio
		PreemptMode=REQUEUE
		SlurmctldParameters=preempt_send_user_signal
		GresTypes=gpu
	CONF
	[ "$version" -lt 2311 ] || echo "PreemptParameters=send_user_signal" >>"$SLURM_CONF"
	if [ "$accounting" = yes ]; then
		cat >>"$SLURM_CONF" <<-CONF
			AccountingStorageType=accounting_storage/slurmdbd
			AccountingStorageHost=127.0.0.1
			AccountingStoragePort=$dbd
			AccountingStoragePass=$dir/run/munge
		CONF
		(umask 077 && cat >"$dir/slurmdbd.conf" <<-CONF
			AuthType=auth/munge
			AuthInfo=socket=$dir/run/munge
			DbdHost=$(hostname -s)
			DbdAddr=127.0.0.1
			DbdPort=$dbd
			SlurmUser=$(id -un)
			PidFile=$dir/run/dbd.own
			LogFile=$dir/log/slurmdbd
			CommunicationParameters=NoInAddrAny
			StorageType=accounting_storage/mysql
			StorageHost=localhost
			StorageUser=$(id -un)
			StorageLoc=slurm_acct_db
		CONF
		)
	fi
	local gres="" name
	echo "AutoDetect=off" >"$dir/gres.conf"
	if [ "$gpus" -gt 0 ]; then
		# Each GPU needs a device file of its own name: a link to /dev/null suffices.
		for ((i = 0; i < gpus; i++)); do ln -sfn /dev/null "$dir/dev/gpu$i"; done
		echo "Name=gpu File=$dir/dev/gpu$([ "$gpus" = 1 ] && echo 0 || echo "[0-$((gpus - 1))]")" \
			>>"$dir/gres.conf"
		gres="Gres=gpu:$gpus"
	fi
	for name in $(node_names); do
		i=$(free_port); port=$((i + 1))
		echo "NodeName=$name NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$i CPUs=$cpus" \
			"RealMemory=$memory $gres State=UNKNOWN" >>"$SLURM_CONF"
	done
	cat >>"$SLURM_CONF" <<-CONF
		PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=$grace
		PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
	CONF
	if [ "$version" -ge 2405 ]; then echo "CgroupPlugin=disabled"; else echo "CgroupPlugin=cgroup/v1"; fi \
		>"$dir/cgroup.conf"
}

# ------------------------------------------------------------------ daemons
alive() { # whether the daemon noted as $1 still runs; a process id may have gone to another program
	local pid
	pid=$(cat "$dir/run/$1.pid" 2>/dev/null) || return 1
	tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir"
}
spawn() { # spawn NAME COMMAND…: detached from the caller's terminal and pipes
	local name=$1
	shift
	setsid "$@" </dev/null >>"$dir/log/$name.out" 2>&1 &
	echo $! >"$dir/run/$name.pid"
}
await() { # await WHAT NAME COMMAND…: until the command succeeds, while the daemon lives
	local what=$1 name=$2 i
	shift 2
	for ((i = 0; i < 900; i++)); do # a busy machine may take a minute
		! "$@" >/dev/null 2>&1 || return 0
		# Just after its start a daemon is still a copy of this shell, and not known as itself.
		alive "$name" || [ $i -lt 50 ] || break
		sleep 0.1
	done
	tail -n 5 "$dir/log/$name"* >&2 || true
	fail "$what did not come up; logs are in $dir/log"
}
halt() { # halt NAME
	local i
	if alive "$1"; then
		kill -TERM "$(cat "$dir/run/$1.pid")" 2>/dev/null || true
		for ((i = 0; i < 50; i++)); do alive "$1" || break; sleep 0.1; done
		! alive "$1" || kill -KILL "$(cat "$dir/run/$1.pid")" 2>/dev/null || true
	fi
	rm -f "$dir/run/$1.pid"
}
start_accounting() {
	local share=/usr/share/mysql maria
	[ -d $share ] || share=/usr/share/mariadb
	maria="mariadbd --no-defaults --user=$(id -un) --datadir=$dir/db --skip-networking
		--skip-grant-tables --skip-log-bin --innodb-buffer-pool-size=32M --socket=$dir/run/db"
	if [ ! -e "$dir/db/.ready" ]; then
		{
			printf 'CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n'
			cat $share/mysql_system_tables.sql 2>/dev/null || cat $share/mariadb_system_tables.sql
			printf 'CREATE DATABASE slurm_acct_db;\n'
		} | $maria --bootstrap >"$dir/log/bootstrap" 2>&1 || fail "no database; see $dir/log/bootstrap"
		touch "$dir/db/.ready"
	fi
	spawn mariadbd $maria
	await "the database" mariadbd test -S "$dir/run/db"
	# The name holds the folder, by which a process is known to be this one.
	MYSQL_UNIX_PORT=$dir/run/db SLURM_CONF=$dir/slurmdbd.conf spawn slurmdbd \
		bash -c 'exec -a "slurmdbd $1" slurmdbd -D' - "$dir"
	await "slurmdbd" slurmdbd sacctmgr -n list cluster
	sacctmgr -n -P list cluster format=cluster | grep -qx local ||
		sacctmgr -i add cluster local >/dev/null
}

healthy() {
	local up
	up=$(timeout 10 sinfo -h -N -p main -o %t 2>/dev/null | grep -cE '^(idle|mix|alloc|comp)$') || return 1
	[ "$up" = "$(grep -c ^NodeName= "$SLURM_CONF")" ]
}

start() {
	mkdir -p "$dir"/{run,log,state,spool,dev,db}
	chmod 700 "$dir/run" "$dir/db"
	if alive slurmctld && healthy; then
		say "runs already, in $dir"
	else
		install_missing
		stop_daemons
		write_configuration
		[ -s "$dir/munge.key" ] ||
			(umask 077 && dd if=/dev/urandom of="$dir/munge.key" bs=1024 count=1 status=none)
		spawn munged munged --foreground --force --key-file="$dir/munge.key" \
			--socket="$dir/run/munge" --pid-file="$dir/run/munged.own" \
			--log-file="$dir/log/munged" --seed-file="$dir/munge.seed"
		await munge munged munge -n -S "$dir/run/munge"
		[ "$accounting" = no ] || start_accounting
		spawn slurmctld slurmctld -D -f "$SLURM_CONF"
		await slurmctld slurmctld scontrol ping
		local name
		for name in $(node_names); do
			mkdir -p "$dir/spool/$name"
			spawn "$name" slurmd -D -N "$name" -f "$SLURM_CONF"
		done
		for name in $(node_names); do await "the nodes" "$name" healthy; done
		say "up: $nodes nodes with $cpus CPUs and $gpus fake GPUs each, accounting: $accounting," \
			"in $dir"
	fi
	echo "export SLURM_CONF=$SLURM_CONF"
}

stop_daemons() {
	local note name
	if alive slurmctld; then
		timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
		for ((i = 0; i < 40; i++)); do
			[ -n "$(timeout 10 squeue -h 2>/dev/null)" ] || break
			sleep 0.25
		done
	fi
	for note in "$dir"/run/node*.pid; do
		[ ! -e "$note" ] || { name=${note##*/}; halt "${name%.pid}"; }
	done
	for name in slurmctld slurmdbd mariadbd munged; do halt $name; done
}

show() {
	local note name
	[ -s "$SLURM_CONF" ] || { say "nothing in $dir"; return 3; }
	for note in "$dir"/run/*.pid; do
		name=${note##*/} name=${name%.pid}
		if alive "$name"; then echo "$name up, process $(cat "$note")"; else echo "$name DOWN"; fi
	done
	timeout 10 sinfo -N -O NodeList:12,Partition:10,StateCompact:8,CPUs:6,Memory:9,Gres:12 || true
	healthy || { say "not every node answers; logs are in $dir/log"; return 1; }
	echo "export SLURM_CONF=$SLURM_CONF"
}

case ${1:-} in
start) start ;;
stop)
	[ -e "$SLURM_CONF" ] || [ ! -e "$dir" ] || fail "$dir holds no cluster of mine; nothing was deleted"
	stop_daemons && rm -rf "$dir"
	;;
status) show ;;
*) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
