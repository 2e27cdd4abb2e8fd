<?php

/**
 * Driver of Roundcube's password plugin that has mailcryptfs follow a changed password.
 *
 * Put it into plugins/password/drivers/, and into config.inc.php of the plugin:
 *
 *     $config['password_driver'] = 'mailcryptfs';
 *     $config['password_confirm_current'] = true;
 *     $config['password_mailcryptfs_driver'] = 'sql';  // what changes the login password; '' if something else does
 *     $config['password_mailcryptfs_cmd'] = ['sudo', '/usr/local/sbin/mailcryptfs', 'passwd', '--stdin', '--'];
 *
 * First the key is changed, which finds out whether the old password is right, then the login password by the other
 * driver; if that fails, the key is changed back. Passwords go through a pipe, never through arguments.
 */
class rcube_mailcryptfs_password
{
    const NOT_ENROLLED = 67; // the user has no key: nothing to change

    public function save($currpass, $newpass, $username)
    {
        $config = rcmail::get_instance()->config;
        $status = $this->change($config, $currpass, $newpass, $username);
        if ($status != 0 && $status != self::NOT_ENROLLED) {
            rcube::raise_error([
                'code' => 600, 'file' => __FILE__, 'line' => __LINE__,
                'message' => "Password plugin: mailcryptfs passwd ended with status $status",
            ], true, false);
            return $status == 77 ? PASSWORD_CONSTRAINT_VIOLATION : PASSWORD_CONNECT_ERROR;
        }
        $driver = (string) $config->get('password_mailcryptfs_driver', 'sql');
        if ($driver === '') {
            return PASSWORD_SUCCESS;
        }
        $result = $this->login($driver, $currpass, $newpass, $username);
        $code = is_array($result) ? $result['code'] : $result;
        if ($code != PASSWORD_SUCCESS && $status == 0) {
            $this->change($config, $newpass, $currpass, $username);
        }
        return $result;
    }

    /** Changes the login password by another driver of the plugin. */
    private function login($driver, $currpass, $newpass, $username)
    {
        $class = "rcube_{$driver}_password";
        if (!class_exists($class)) {
            require_once __DIR__ . '/' . basename($driver) . '.php';
        }
        return (new $class())->save($currpass, $newpass, $username);
    }

    /** Returns the exit status of mailcryptfs. */
    private function change($config, $from, $to, $username)
    {
        $default = ['sudo', '/usr/local/sbin/mailcryptfs', 'passwd', '--stdin', '--'];
        $command = array_merge((array) $config->get('password_mailcryptfs_cmd', $default), [$username]);
        $process = proc_open($command, [0 => ['pipe', 'r'], 1 => ['file', '/dev/null', 'w'], 2 => ['file', '/dev/null', 'w']], $pipes);
        if (!is_resource($process)) {
            return -1;
        }
        fwrite($pipes[0], $from . "\n" . $to . "\n");
        fclose($pipes[0]);
        return proc_close($process);
    }
}
