# The least that a deploy can do: floor.sh REPOSITORY TREE SSH_CONFIG HOSTS
# Parallel rsync with --link-dest over one shared connection per host, one migrate, serial restarts.
set -eu
repository=$1 tree=$2 config=$3 hosts=$4
control=$(mktemp -d)
ssh="ssh -F $config -l deploy -o ControlMaster=auto -o ControlPath=$control/%h -o ControlPersist=60"
trap 'for h in $hosts; do $ssh -O exit $h 2>/dev/null || :; done; rm -rf "$control"' EXIT
launch="python3 -I $ROOT/.fabfleet/launch.py"

chmod 755 "$tree"
git -C "$repository" archive HEAD | tar -x -C "$tree"
waiting=
for host in $hosts; do
    rsync -a --delete --link-dest="$ROOT/current/" -e "$ssh" "$tree/" "$host:$ROOT/releases/$RELEASE/" &
    waiting="$waiting $!"
done
for one in $waiting; do wait "$one"; done

for host in $hosts; do
    # The launcher wants what a release of ours has beside its tree; the last one's will do.
    $ssh "$host" "cd $ROOT/.fabfleet/releases && old=\$(basename \$(readlink $ROOT/current)) &&
        cp -r \$old $RELEASE && sed -i s/\$old/$RELEASE/g $RELEASE/runtime.json &&
        ln -s \$old $ROOT/static/$RELEASE" &
    last=$!
done
wait "$last"; wait

first=${hosts%% *}
$ssh "$first" "sudo -n -u shop $launch --release $RELEASE -- python manage.py migrate --noinput" >/dev/null
for host in $hosts; do
    $ssh "$host" "ln -sfn releases/$RELEASE $ROOT/.current-new && mv -T $ROOT/.current-new $ROOT/current &&
        sudo -n systemctl restart shop-wsgi.service &&
        until curl -sf -H 'Host: localhost' http://127.0.0.1:8000/healthz >/dev/null; do sleep 0.05; done"
done
